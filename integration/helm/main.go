// Command helm renders a chart as `helm template` does, with Helm's own packages.
//
// The whole of Helm takes five minutes to build, most of it for clusters and registries that rendering has no use for.
package main

import (
	"flag"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/strvals"
)

const usage = "usage: helm template NAME CHART [--namespace NAMESPACE] [--include-crds] [--set KEY=VALUE]..."

// What is to be rendered.
type request struct {
	name, chart, namespace string
	crds                   bool
	values                 map[string]any
}

func main() {
	wanted, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err := wanted.render(); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func parse(arguments []string) (request, error) {
	if len(arguments) < 3 || arguments[0] != "template" {
		return request{}, fmt.Errorf("%s", usage)
	}
	wanted := request{name: arguments[1], chart: arguments[2], values: map[string]any{}}
	flags := flag.NewFlagSet("helm template", flag.ContinueOnError)
	flags.StringVar(&wanted.namespace, "namespace", "default", "the namespace of the release")
	flags.BoolVar(&wanted.crds, "include-crds", false, "render the CustomResourceDefinitions as well")
	flags.Func("set", "a value, as KEY=VALUE; several are separated by commas", func(text string) error {
		return strvals.ParseInto(text, wanted.values)
	})
	return wanted, flags.Parse(arguments[3:])
}

// Prints the objects of the chart, each after a line that names its template.
func (r request) render() error {
	chart, err := loader.Load(r.chart)
	if err != nil {
		return err
	}
	release := common.ReleaseOptions{Name: r.name, Namespace: r.namespace, Revision: 1, IsInstall: true}
	values, err := util.ToRenderValues(chart, r.values, release, common.DefaultCapabilities)
	if err != nil {
		return err
	}
	rendered, err := engine.Render(chart, values)
	if err != nil {
		return err
	}
	if r.crds {
		for _, definition := range chart.CRDObjects() {
			fmt.Printf("---\n# Source: %s\n%s\n", definition.Filename, definition.File.Data)
		}
	}
	names := make([]string, 0, len(rendered))
	for name, text := range rendered {
		// Notes are for people, and what begins with an underscore has parts of templates.
		if path.Ext(name) == ".yaml" && !strings.HasPrefix(path.Base(name), "_") && strings.TrimSpace(text) != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Printf("---\n# Source: %s\n%s\n", name, rendered[name])
	}
	return nil
}
