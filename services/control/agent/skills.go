package agent

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/catalogue"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/skill"
)

// folders are skills/<name>/, each with a SKILL.md.
var folders = kindOf(kind{
	folder: "skills", form: catalogue.Form{Inner: skill.FileName},
	list: &naming{
		key: "skills", what: "skill", names: func(d Definition) []string { return d.Skills },
		other: func(string) bool { return false },
		hint:  "; those of a workspace need not be named",
	},
	sandbox: func(part any) bool { return len(part.(skill.Skill).Files) > 0 },
}, readSkill, func(d *Definition) *map[string]skill.Skill { return &d.SkillFolders })

func readSkill(s source, _ Lookup) (skill.Skill, error) { return skill.Load(filepath.Dir(s.File)) }

// skills reads the names of skills. Whether there are such is for Load to check.
func (p *parser) skills(d *Definition, key string, n *yaml.Node) {
	names, ok := p.List(key, n, func(item *yaml.Node) (string, bool) {
		name, ok := p.Text(key, item, skill.MaxFullName)
		switch {
		case !ok:
		case !skill.ValidName(name):
			p.Report(document.At(item), key, "%q cannot be a skill's name: it must have 1 to %d of a-z, 0-9 and "+
				"single "+
				"hyphens between them, behind PLUGIN: if it is a plugin's", document.Printable(name), skill.MaxName)
			ok = false
		case p.named(key, name):
			p.Report(document.At(item), key, "%s is given twice", name)
			ok = false
		}
		p.places[mention{key, name}] = document.At(item)
		return name, ok
	})
	if ok {
		slices.Sort(names)
		d.Skills = names
	}
}

// withoutFiles is the definition without the content of its skills' and plugins' files, which their digests stand for.
func (d Definition) withoutFiles() Definition {
	d.PluginFolders = nil
	if len(d.SkillFolders) > 0 {
		d.SkillFolders = maps.Clone(d.SkillFolders)
		for name, s := range d.SkillFolders {
			s.Files = nil
			d.SkillFolders[name] = s
		}
	}
	if len(d.Team) > 0 {
		d.Team = maps.Clone(d.Team)
		for name, member := range d.Team {
			d.Team[name] = member.withoutFiles()
		}
	}
	return d
}

// catalogue is what a model is told of the agent's skills.
func (d Definition) catalogue() string {
	var lines []string
	for _, name := range d.Skills {
		if s := d.SkillFolders[name]; !s.Hidden && s.Name != "" {
			lines = append(lines, "- "+s.Name+": "+strings.Join(strings.Fields(s.Description), " "))
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return "Your skills, to be read with activate_skill before you begin with such a task:\n" +
		strings.Join(lines, "\n")
}
