// Command cluster runs a Kubernetes cluster of one node in namespaces of its
// own, without containers, and runs a command against it. README.md tells how.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"

	"kthena-router/integration/cluster/internal/controlplane"
	"kthena-router/integration/cluster/internal/process"
	"kthena-router/integration/cluster/internal/rig"
	"kthena-router/integration/cluster/internal/topology"
)

const usage = `usage: cluster run [--state-dir DIR] [--keep] --image NAME=PROGRAM ... -- COMMAND ARGS...

Starts a Kubernetes cluster in namespaces of its own, runs COMMAND against it
(KUBECONFIG, CLUSTER_CONTROL, CLUSTER_STATE), and ends the cluster with it.
`

func init() {
	// /proc/self and a parent-death signal go by the main thread, which must
	// therefore neither end nor be lent to a goroutine that changes namespaces.
	runtime.LockOSThread()
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	code, err := dispatch(os.Args[1], os.Args[2:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "cluster: %v\n", err)
	}
	os.Exit(code)
}

// dispatch runs a subcommand. All but run are the program's own children.
func dispatch(command string, args []string) (int, error) {
	switch command {
	case "run":
		return run(args)
	case rig.InsideCommand:
		state, options, err := insideOptions(args)
		if err != nil {
			return 1, err
		}
		return rig.Inside(state, options)
	case rig.SweepCommand:
		return failed(rig.Sweep(args[0]))
	case controlplane.EtcdCommand:
		process.SetName(command)
		return failed(controlplane.RunEtcd(topology.State(args[0])))
	case controlplane.APIServerCommand:
		process.SetName(command)
		return failed(controlplane.RunAPIServer(args))
	case controlplane.ControllersCommand:
		process.SetName(command)
		return failed(controlplane.RunControllers(topology.State(args[0])))
	default:
		fmt.Fprint(os.Stderr, usage)
		return 2, fmt.Errorf("unknown command %q", command)
	}
}

func failed(err error) (int, error) {
	if err != nil {
		return 1, err
	}
	return 0, nil
}

func run(args []string) (int, error) {
	flags, options := newFlags("run")
	flags.StringVar(&options.StateDir, "state-dir", "", "directory for keys, logs and data; must be empty (default: a new temporary one)")
	flags.BoolVar(&options.Keep, "keep", false, "keep the state directory at the end")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	options.Command = flags.Args()
	if len(options.Command) == 0 {
		return 2, errors.New("no COMMAND to run; see cluster run --help")
	}
	return rig.Launch(*options)
}

// insideOptions parses what Launch hands to the rig: the state directory and
// then the same flags as run.
func insideOptions(args []string) (topology.State, rig.Options, error) {
	if len(args) == 0 {
		return "", rig.Options{}, errors.New("no state directory")
	}
	flags, options := newFlags("rig")
	if err := flags.Parse(args[1:]); err != nil {
		return "", rig.Options{}, err
	}
	options.Command = flags.Args()
	return topology.State(args[0]), *options, nil
}

func newFlags(name string) (*flag.FlagSet, *rig.Options) {
	options := &rig.Options{Images: map[string]string{}}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	// main prints the error; the package would print it and all flags besides.
	flags.SetOutput(io.Discard)
	flags.Usage = func() {
		flags.SetOutput(os.Stderr)
		fmt.Fprint(os.Stderr, usage)
		flags.PrintDefaults()
		flags.SetOutput(io.Discard)
	}
	flags.Func("image", "NAME=PROGRAM: what containers of an image of that name run; may be repeated", func(text string) error {
		image, program, err := rig.ParseImage(text)
		if err != nil {
			return err
		}
		options.Images[image] = program
		return nil
	})
	return flags, options
}
