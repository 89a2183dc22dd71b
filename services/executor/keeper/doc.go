// Package keeper owns running commands so that no daemon has to: a small process, one per executor, that outlives the
// daemon, and the client that the daemon reaches it with.
//
//	daemon (Client) ── keeper.sock, one connection at a time ──▶ keeper ── fork/exec ──▶ commands
//
//	command:  started ──▶ running ──exit, timeout, Kill──▶ ending ──▶ finished ──Forget──▶ gone
//	             │            └────── the keeper died ──────────▶ interrupted ──Forget──▶ gone
//	             └─ could not start: as if it had never been asked for
//
//	keeper:   serving ──no daemon, nothing held, Idle──▶ exits
//	             ├──no daemon for OrphanGrace──▶ kills what it holds, exits
//	             └──retired (a daemon of another version came) and nothing held──▶ exits
//
// Invariants:
//   - An id is started at most once. The keeper reads a connection to its end before it reads the next one, so when it
//     answers "unknown" no Start of that id is on its way: the command never ran.
//   - The daemon hears of the end of a command when there is nothing more to wait for. END and output are put on disk
//     then, and the command is not forgotten before that.
//   - END says confirmed only when no process of the command is left. See tree.go for how processes are told apart.
//   - A new keeper starts serving only after every process of its dead predecessor was killed.
//
// Files in the data directory: keeper.lock (held while a keeper lives), keeper.sock (0600), keeper.log (the journal),
// keeper.out (what a keeper prints, panics for instance), calls/<id>/{stdout,stderr} (captured output).
//
// Versions. Both sides name a protocol number; the connection speaks the smaller one. Fields are only ever added and
// unknown ones ignored; a number grows when an old peer would misunderstand. A daemon speaks every number down to
// minProto, and minProto rises only in a release that documents that old keepers must be empty first. A daemon whose
// Version differs from the keeper's retires it: the keeper goes on serving, commands included, and exits the moment it
// holds nothing; the client then starts one of its own version. So an upgrade never waits and never kills.
package keeper
