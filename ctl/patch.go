package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/margay-project/margay/api"
)

var patchTypes = [...]string{"strategic", "merge", "json"}

func newPatch(s *session) *cobra.Command {
	var at place
	var text, kind string
	cmd := &cobra.Command{
		Use:   "patch KIND NAME -p PATCH",
		Short: "Change some fields of one object",
		Long: `Change some fields of one object.

The patch is JSON or YAML. With -t merge (RFC 7386) it has the shape of the object: fields given replace those stored, null
removes one, lists are replaced whole. strategic, the default, does the same for these objects. With -t json it is a list of
operations (RFC 6902). The result is checked as strictly as a manifest.`,
		Example: `  margayctl patch ippool vms-v4 -p '{"spec": {"disabled": true}}'
  margayctl patch felixconfiguration default -p 'spec: {bpfLogLevel: Debug}'
  margayctl patch gnp web -t json -p '[{"op": "replace", "path": "/spec/ingress/0/action", "value": "Deny"}]'`,
		Args:              exactly(2, "KIND NAME"),
		ValidArgsFunction: completeKind(s, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			objects, err := at.named(args[0], args[1:])
			if err != nil {
				return err
			}
			p, err := parsePatch(kind, text)
			if err != nil {
				return err
			}
			return s.patch(cmd.Context(), objects[0], at, p)
		},
	}
	addNamespaceFlag(cmd, &at)
	cmd.Flags().StringVarP(&text, "patch", "p", "", "what to change, in JSON or YAML")
	cmd.Flags().StringVarP(&kind, "type", "t", "strategic", "strategic, merge or json")
	return cmd
}

// patcher turns the JSON of an object into that of the changed object.
type patcher func(original []byte) ([]byte, error)

func parsePatch(kind, text string) (patcher, error) {
	if !slices.Contains(patchTypes[:], kind) {
		return nil, withHints(fmt.Errorf("patch type %q: want strategic, merge or json", kind), didYouMean(kind, patchTypes[:]))
	}
	if strings.TrimSpace(text) == "" {
		return nil, errors.New(`say what to change: -p PATCH, for example -p '{"spec": {"order": 10}}'`)
	}
	raw, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("the patch is neither JSON nor YAML: %w", err)
	}
	if kind == "json" {
		operations, err := jsonpatch.DecodePatch(raw)
		if err != nil {
			return nil, fmt.Errorf(`the patch is not a list of operations such as [{"op": "remove", "path": "/spec/order"}]: %w`, err)
		}
		return operations.Apply, nil
	}
	if !bytes.HasPrefix(raw, []byte("{")) {
		return nil, errors.New(`the patch is not an object such as {"spec": {"order": 10}}; for a list of operations say -t json`)
	}
	return func(original []byte) ([]byte, error) { return jsonpatch.MergePatch(original, raw) }, nil
}

func (s *session) patch(ctx context.Context, o api.Object, at place, p patcher) error {
	if err := at.settle(o); err != nil {
		return fmt.Errorf("hit error: %w", err)
	}
	if err := notWritable("patch", o); err != nil {
		return fmt.Errorf("hit error: %w", err)
	}
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return err
	}
	defer closeStore()
	var changed api.Object
	err = s.retry(ctx, false, func() error {
		current, err := st.Get(ctx, api.KeyOf(o))
		if err != nil {
			return err
		}
		if changed, err = applyPatch(current, p); err != nil {
			return err
		}
		_, err = st.Update(ctx, changed)
		return err
	})
	if err != nil {
		return fmt.Errorf("hit error: %w", err)
	}
	fmt.Fprintf(s.stdout, "Successfully patched 1 '%s' resource\n", o.Type().Kind)
	s.warn(changed, endOfTier(ctx, st, changed))
	return nil
}

// applyPatch is the changed object. It keeps its identity, and its version unless the patch names another.
func applyPatch(current api.Object, p patcher) (api.Object, error) {
	original, err := json.Marshal(current)
	if err != nil {
		return nil, err
	}
	text, err := p(original)
	if err != nil {
		return nil, fmt.Errorf("the patch does not fit %s: %w", api.KeyOf(current), err)
	}
	changed, err := decodePatched(current, original, text, p)
	if err != nil {
		return nil, err
	}
	if was, is := api.KeyOf(current), api.KeyOf(changed); was != is {
		return nil, fmt.Errorf("a patch cannot turn %s into %s: create the new object and delete the old one", was, is)
	}
	meta := *current.Meta()
	meta.Labels, meta.Annotations = changed.Meta().Labels, changed.Meta().Annotations
	meta.ResourceVersion = changed.Meta().ResourceVersion
	*changed.Meta() = meta
	return changed, nil
}

// decodePatched reads the result strictly. When the stored object itself has fields that this version does not know, they are
// not the patch's fault and are kept; then what the patch alone says is read strictly instead.
func decodePatched(current api.Object, original, text []byte, p patcher) (api.Object, error) {
	if _, err := api.Decode(original); err != nil {
		if err := checkAlone(current, p); err != nil {
			return nil, err
		}
		return api.DecodeStored(current.Type().Kind, text)
	}
	objects, err := api.Decode(text)
	if err != nil {
		return nil, err
	}
	if len(objects) != 1 {
		return nil, fmt.Errorf("the patch makes %d objects out of %s", len(objects), api.KeyOf(current))
	}
	return objects[0], nil
}

// checkAlone applies a patch to an object that has nothing but a name. A list of operations does not fit that, and passes.
func checkAlone(current api.Object, p patcher) error {
	bare, err := json.Marshal(map[string]any{
		"apiVersion": api.APIVersion, "kind": current.Type().Kind,
		"metadata": map[string]string{"name": current.Meta().Name, "namespace": current.Meta().Namespace},
	})
	if err != nil {
		return err
	}
	text, err := p(bare)
	if err != nil {
		return nil
	}
	_, err = api.Decode(text)
	return err
}
