package resolve

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// defaultPath is what images set; programs that start others rely on it.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Environment is the resolved environment of a container.
type Environment struct {
	values map[string]string
}

// List returns NAME=VALUE pairs in order of the names.
func (e Environment) List() []string {
	list := make([]string, 0, len(e.values))
	for _, name := range slices.Sorted(maps.Keys(e.values)) {
		list = append(list, name+"="+e.values[name])
	}
	return list
}

// Expand replaces $(NAME) in commands, arguments and subpaths.
func (e Environment) Expand(text string) string {
	return expansion.Expand(text, expansion.MappingFuncFor(e.values))
}

// ExpandAll expands each text.
func (e Environment) ExpandAll(texts []string) []string {
	expanded := make([]string, 0, len(texts))
	for _, text := range texts {
		expanded = append(expanded, e.Expand(text))
	}
	return expanded
}

// Environment resolves env and envFrom of a container: what is in env wins over
// envFrom, a later entry over an earlier one, and $(NAME) refers to what was
// defined before.
func (p Pod) Environment(container *corev1.Container) (Environment, error) {
	values := p.environment()
	values["PATH"] = defaultPath
	for _, source := range container.EnvFrom {
		if err := p.addAll(values, source); err != nil {
			return Environment{}, err
		}
	}
	for _, variable := range container.Env {
		value, present, err := p.variable(variable, container.Name, values)
		if err != nil {
			return Environment{}, fmt.Errorf("variable %s: %w", variable.Name, err)
		}
		if present {
			values[variable.Name] = value
		}
	}
	return Environment{values}, nil
}

// addAll adds a whole Secret or ConfigMap; keys that cannot be names of
// variables are left out, as the kubelet does.
func (p Pod) addAll(values map[string]string, source corev1.EnvFromSource) error {
	add := func(key, value string) {
		if name := source.Prefix + key; len(validation.IsEnvVarName(name)) == 0 {
			values[name] = value
		}
	}
	// Only one of the two is set, as the API server sees to.
	if ref := source.ConfigMapRef; ref != nil {
		object, err := p.Objects.ConfigMap(p.Namespace, ref.Name)
		if err != nil {
			return unlessMissing(err, ref.Optional)
		}
		for key, value := range object.Data {
			add(key, value)
		}
	}
	if ref := source.SecretRef; ref != nil {
		object, err := p.Objects.Secret(p.Namespace, ref.Name)
		if err != nil {
			return unlessMissing(err, ref.Optional)
		}
		for key, value := range object.Data {
			add(key, string(value))
		}
	}
	return nil
}

// unlessMissing returns err, unless it says that an optional object is missing.
func unlessMissing(err error, optional *bool) error {
	if missing(err, optional) {
		return nil
	}
	return err
}

// variable resolves one entry; an optional reference may lead nowhere.
func (p Pod) variable(v corev1.EnvVar, container string, defined map[string]string) (value string, present bool, err error) {
	from := v.ValueFrom
	switch {
	case from == nil:
		return expansion.Expand(v.Value, expansion.MappingFuncFor(defined)), true, nil
	case from.FieldRef != nil:
		value, err = p.field(from.FieldRef.FieldPath)
	case from.ResourceFieldRef != nil:
		value, err = p.resourceField(from.ResourceFieldRef, container)
	case from.ConfigMapKeyRef != nil:
		value, err = p.configMapKey(from.ConfigMapKeyRef)
		if missing(err, from.ConfigMapKeyRef.Optional) {
			return "", false, nil
		}
	case from.SecretKeyRef != nil:
		value, err = p.secretKey(from.SecretKeyRef)
		if missing(err, from.SecretKeyRef.Optional) {
			return "", false, nil
		}
	default:
		err = fmt.Errorf("this source of a value is not supported: %v", from)
	}
	return value, err == nil, err
}

func (p Pod) configMapKey(ref *corev1.ConfigMapKeySelector) (string, error) {
	object, err := p.Objects.ConfigMap(p.Namespace, ref.Name)
	if err != nil {
		return "", err
	}
	value, found := object.Data[ref.Key]
	if !found {
		return "", noKey("ConfigMap", p.Namespace, ref.Name, ref.Key)
	}
	return value, nil
}

func (p Pod) secretKey(ref *corev1.SecretKeySelector) (string, error) {
	object, err := p.Objects.Secret(p.Namespace, ref.Name)
	if err != nil {
		return "", err
	}
	value, found := object.Data[ref.Key]
	if !found {
		return "", noKey("Secret", p.Namespace, ref.Name, ref.Key)
	}
	return string(value), nil
}
