package resolve

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"kthena-router/integration/cluster/internal/volumes"
)

// defaultMode is that of all volumes with contents.
const defaultMode int32 = 0o644

// Volume resolves the contents of a volume. An emptyDir has none; the second
// result tells volumes with contents, which have to follow their sources, from
// those without.
func (p Pod) Volume(volume corev1.Volume) (volumes.Payload, bool, error) {
	payload := volumes.Payload{}
	var err error
	switch source := volume.VolumeSource; {
	case source.EmptyDir != nil:
		return nil, false, nil
	case source.Secret != nil:
		err = p.addSecret(payload, source.Secret.SecretName, source.Secret.Items, source.Secret.DefaultMode, source.Secret.Optional)
	case source.ConfigMap != nil:
		err = p.addConfigMap(payload, source.ConfigMap.Name, source.ConfigMap.Items, source.ConfigMap.DefaultMode, source.ConfigMap.Optional)
	case source.DownwardAPI != nil:
		err = p.addDownward(payload, source.DownwardAPI.Items, source.DownwardAPI.DefaultMode)
	case source.Projected != nil:
		err = p.addProjected(payload, source.Projected)
	default:
		err = fmt.Errorf("this type of volume is not supported; known: emptyDir, secret, configMap, downwardAPI, projected")
	}
	if err != nil {
		return nil, false, fmt.Errorf("volume %s: %w", volume.Name, err)
	}
	return payload, true, nil
}

func (p Pod) addSecret(payload volumes.Payload, name string, items []corev1.KeyToPath, mode *int32, optional *bool) error {
	object, err := p.Objects.Secret(p.Namespace, name)
	if missing(err, optional) {
		return nil
	}
	if err != nil {
		return err
	}
	return addItems(payload, object.Data, items, mode, optional, func(key string) error {
		return noKey("Secret", p.Namespace, name, key)
	})
}

func (p Pod) addConfigMap(payload volumes.Payload, name string, items []corev1.KeyToPath, mode *int32, optional *bool) error {
	object, err := p.Objects.ConfigMap(p.Namespace, name)
	if missing(err, optional) {
		return nil
	}
	if err != nil {
		return err
	}
	data := make(map[string][]byte, len(object.Data)+len(object.BinaryData))
	for key, value := range object.BinaryData {
		data[key] = value
	}
	for key, value := range object.Data {
		data[key] = []byte(value)
	}
	return addItems(payload, data, items, mode, optional, func(key string) error {
		return noKey("ConfigMap", p.Namespace, name, key)
	})
}

// addItems adds all keys, or those that items name at the paths that they give.
func addItems(payload volumes.Payload, data map[string][]byte, items []corev1.KeyToPath, mode *int32, optional *bool, noKey func(string) error) error {
	if len(items) == 0 {
		for key, value := range data {
			payload[key] = volumes.File{Data: value, Mode: modeOf(nil, mode)}
		}
		return nil
	}
	for _, item := range items {
		value, found := data[item.Key]
		if !found {
			if optional != nil && *optional {
				continue
			}
			return noKey(item.Key)
		}
		payload[item.Path] = volumes.File{Data: value, Mode: modeOf(item.Mode, mode)}
	}
	return nil
}

func (p Pod) addDownward(payload volumes.Payload, items []corev1.DownwardAPIVolumeFile, mode *int32) error {
	for _, item := range items {
		var value string
		var err error
		if item.FieldRef != nil {
			value, err = p.field(item.FieldRef.FieldPath)
		} else {
			value, err = p.resourceField(item.ResourceFieldRef, "")
		}
		if err != nil {
			return fmt.Errorf("file %s: %w", item.Path, err)
		}
		payload[item.Path] = volumes.File{Data: []byte(value), Mode: modeOf(item.Mode, mode)}
	}
	return nil
}

func (p Pod) addProjected(payload volumes.Payload, projected *corev1.ProjectedVolumeSource) error {
	mode := projected.DefaultMode
	for _, source := range projected.Sources {
		var err error
		switch {
		case source.Secret != nil:
			err = p.addSecret(payload, source.Secret.Name, source.Secret.Items, mode, source.Secret.Optional)
		case source.ConfigMap != nil:
			err = p.addConfigMap(payload, source.ConfigMap.Name, source.ConfigMap.Items, mode, source.ConfigMap.Optional)
		case source.DownwardAPI != nil:
			err = p.addDownward(payload, source.DownwardAPI.Items, mode)
		case source.ServiceAccountToken != nil:
			var token string
			token, err = p.Objects.Token(p.Pod, source.ServiceAccountToken)
			payload[source.ServiceAccountToken.Path] = volumes.File{Data: []byte(token), Mode: modeOf(nil, mode)}
		default:
			err = fmt.Errorf("this projected source is not supported; known: secret, configMap, downwardAPI, serviceAccountToken")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func modeOf(own, common *int32) int32 {
	switch {
	case own != nil:
		return *own
	case common != nil:
		return *common
	default:
		return defaultMode
	}
}
