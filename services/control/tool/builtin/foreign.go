package builtin

// foreign are names that other systems have for these tools.
var foreign = map[string]string{
	"Read": NameRead, "LS": NameRead, "Write": NameWrite, "Edit": NameEdit, "MultiEdit": NameEdit, "Bash": NameBash,
	"Grep": NameGrep, "Glob": NameGlob, "Task": NameTask, "Agent": NameTask,
}

// Foreign is the built-in tool that does what a tool of another system does, by the name that it has there; "" is none.
func Foreign(name string) string { return foreign[name] }
