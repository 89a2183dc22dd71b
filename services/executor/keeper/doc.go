// Package keeper runs commands in a small process that outlives the daemon, and has the client by which the daemon
// reaches that process. An executor has one keeper.
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
//   - An id is started at most once. The keeper reads a connection to its end before it reads the next one. So when it
//     answers "unknown", no Start of that id is on its way, and this keeper never started it. See Client.Witness for
//     what the answer of a later keeper proves.
//   - The daemon hears of the end of a command when no process and no output is left to wait for. Then the keeper puts
//     output and END on disk. It forgets the command only after that.
//   - END says confirmed only when no process of the command is left. See tree.go for how processes are told apart.
//   - A new keeper begins to serve only after it has killed every process of its dead predecessor. It does not touch
//     the processes of a data directory that its own one is a copy of.
//
// Files in the data directory: keeper.lock (held while a keeper lives), keeper.sock (0600), keeper.log (the journal),
// keeper.out (what a keeper prints, panics for instance), calls/<id>/{stdout,stderr} (captured output), preserved/
// (output that could not be read).
//
// Versions. Both sides name a protocol number, and the connection uses the smaller one. Fields are only added, and
// unknown fields are ignored. The number grows when an old peer would misunderstand. A daemon speaks every number down
// to minProto; a release that raises minProto says that old keepers must be empty first. A daemon whose version differs
// from the keeper's retires the keeper: it serves on, and exits when it holds nothing. Then the client starts a keeper
// of its own version. So an upgrade neither waits nor kills.
package keeper
