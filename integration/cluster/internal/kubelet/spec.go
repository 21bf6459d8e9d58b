package kubelet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"kthena-router/integration/cluster/internal/resolve"
	"kthena-router/integration/cluster/internal/sandbox"
)

// nonRoot is the user of images that declare one; it stands in for theirs where
// a pod asks for any user but root.
const nonRoot = 65532

// outputLimit bounds what is kept of the output of hooks and exec probes.
const outputLimit = 10 << 10

// sandboxSpec says how to run the container.
func (c *container) sandboxSpec() (sandbox.Spec, error) {
	w := c.worker
	references := w.references()
	environment, err := references.Environment(c.spec)
	if err != nil {
		return sandbox.Spec{}, err
	}
	user, err := userOf(w.spec.SecurityContext, c.spec.SecurityContext)
	if err != nil {
		return sandbox.Spec{}, err
	}
	volumeMounts, err := c.mounts(environment)
	if err != nil {
		return sandbox.Spec{}, err
	}
	argv, mounts := w.kubelet.images.ResolveCommand(c.spec.Image,
		environment.ExpandAll(c.spec.Command), environment.ExpandAll(c.spec.Args))
	spec := sandbox.Spec{
		Root:     filepath.Join(w.kubelet.state.Containers(), string(w.uid), c.spec.Name),
		Hostname: w.name,
		NetNS:    w.net.NamespaceFD(),
		Mounts:   append(mounts, volumeMounts...),
		Files:    etcFiles(references, user),
		Argv:     argv,
		Env:      environment.List(),
		Dir:      c.spec.WorkingDir,
		UID:      user.uid,
		GID:      user.gid,
		Groups:   user.groups,
	}
	if context := c.spec.SecurityContext; context != nil {
		spec.ReadOnlyRoot = isTrue(context.ReadOnlyRootFilesystem)
		spec.KeepPrivileges = isTrue(context.Privileged)
		spec.NoNewPrivileges = context.AllowPrivilegeEscalation != nil && !*context.AllowPrivilegeEscalation
	}
	return spec, nil
}

// mounts are the container's volume mounts, outer ones before inner ones.
func (c *container) mounts(environment resolve.Environment) ([]sandbox.Mount, error) {
	var mounts []sandbox.Mount
	for _, mount := range c.spec.VolumeMounts {
		source := c.worker.volumeDirectory(mount.Name)
		subPath := mount.SubPath
		if mount.SubPathExpr != "" {
			subPath = environment.Expand(mount.SubPathExpr)
		}
		if subPath != "" {
			resolved, err := c.worker.subPath(mount.Name, subPath)
			if err != nil {
				return nil, fmt.Errorf("mount %s: %w", mount.MountPath, err)
			}
			source = resolved
		}
		mounts = append(mounts, sandbox.Mount{Source: source, Target: mount.MountPath, ReadOnly: mount.ReadOnly})
	}
	slices.SortStableFunc(mounts, func(a, b sandbox.Mount) int {
		return strings.Count(a.Target, "/") - strings.Count(b.Target, "/")
	})
	return mounts, nil
}

// user is who a container runs as.
type user struct {
	uid, gid uint32
	groups   []uint32
}

// userOf applies the container's settings over the pod's.
func userOf(pod *corev1.PodSecurityContext, container *corev1.SecurityContext) (user, error) {
	var uid, gid *int64
	var nonRootOnly *bool
	var u user
	if pod != nil {
		uid, gid, nonRootOnly = pod.RunAsUser, pod.RunAsGroup, pod.RunAsNonRoot
		for _, group := range pod.SupplementalGroups {
			u.groups = append(u.groups, uint32(group))
		}
		if pod.FSGroup != nil {
			u.groups = append(u.groups, uint32(*pod.FSGroup))
		}
	}
	if container != nil {
		uid = first(container.RunAsUser, uid)
		gid = first(container.RunAsGroup, gid)
		nonRootOnly = first(container.RunAsNonRoot, nonRootOnly)
	}
	switch {
	case uid != nil:
		u.uid = uint32(*uid)
	case isTrue(nonRootOnly):
		u.uid, u.gid = nonRoot, nonRoot
	}
	if gid != nil {
		u.gid = uint32(*gid)
	}
	if isTrue(nonRootOnly) && u.uid == 0 {
		return user{}, errors.New("container has runAsNonRoot and runAsUser 0")
	}
	return u, nil
}

// etcFiles are what programs expect in /etc. There is no name service but this.
func etcFiles(pod resolve.Pod, u user) []sandbox.File {
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost\n" + pod.Host.PodIP + "\t" + pod.Name + "\n"
	for _, alias := range pod.Spec.HostAliases {
		hosts += alias.IP + "\t" + strings.Join(alias.Hostnames, " ") + "\n"
	}
	passwd, group := "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n"
	if u.uid != 0 {
		passwd += fmt.Sprintf("nonroot:x:%d:%d:nonroot:/:/sbin/nologin\n", u.uid, u.gid)
	}
	if u.gid != 0 {
		group += fmt.Sprintf("nonroot:x:%d:\n", u.gid)
	}
	return []sandbox.File{
		{Path: "/etc/hosts", Content: hosts},
		{Path: "/etc/hostname", Content: pod.Name + "\n"},
		{Path: "/etc/resolv.conf", Content: "options timeout:1 attempts:1\n"},
		{Path: "/etc/nsswitch.conf", Content: "passwd: files\ngroup: files\nhosts: files dns\n"},
		{Path: "/etc/passwd", Content: passwd},
		{Path: "/etc/group", Content: group},
	}
}

func first[T any](own, inherited *T) *T {
	if own != nil {
		return own
	}
	return inherited
}

func isTrue(flag *bool) bool { return flag != nil && *flag }

// readSome reads to the end and returns the beginning.
func readSome(reader *os.File) string {
	text, _ := io.ReadAll(io.LimitReader(reader, outputLimit))
	_, _ = io.Copy(io.Discard, reader)
	return strings.TrimSpace(string(text))
}
