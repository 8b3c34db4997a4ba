//go:build linux || darwin

package packer

import "syscall"

// freeBytes is the space that an ordinary user may still fill on dir's file system.
func freeBytes(dir string) (int64, bool) {
	var s syscall.Statfs_t
	if syscall.Statfs(dir, &s) != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}
