// Package pawl is the root of the module and holds the rules of its architecture as tests. The programs are in cmd.
package pawl
