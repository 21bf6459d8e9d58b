package rig

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// orphanAge is how long a zombie has to be unclaimed before it is taken for an
// orphan; the rig's own children are waited for at once.
const orphanAge = 2 * time.Second

// reapOrphans does the duty of a first process: it waits for children that were
// left behind by others. Its own children are waited for elsewhere, and their
// exit codes must not be taken away, so only zombies that nobody has claimed for
// a while are reaped.
func reapOrphans() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	for range ended {
		before := zombies()
		time.Sleep(orphanAge)
		for pid := range before {
			if zombie(pid) {
				var status syscall.WaitStatus
				_, _ = syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
			}
		}
	}
}

// zombies are the ended children of this process that are not yet waited for.
func zombies() map[int]bool {
	found := map[int]bool{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return found
	}
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && zombie(pid) {
			found[pid] = true
		}
	}
	return found
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && zombieOf(string(stat), os.Getpid())
}

// zombieOf reads state and parent, the two fields behind the command's name.
func zombieOf(stat string, parent int) bool {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	return len(fields) > 1 && fields[0] == "Z" && fields[1] == strconv.Itoa(parent)
}
