package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
)

var patchTypes = [...]string{"strategic", "merge", "json"}

func newPatch(s *session) *cobra.Command {
	var at scope
	var text, kind string
	cmd := &cobra.Command{
		Use:   "patch KIND NAME -p PATCH",
		Short: "Change some fields of one object",
		Long: `Change some fields of one object.

The patch is JSON or YAML, of one of these types (-t):

merge (RFC 7396) has the shape of the object. Its fields replace the stored ones, null removes a field, and lists are replaced
as a whole.

strategic, the default, is like merge, but it adds elements to the lists finalizers and ownerReferences. It knows the
directives of Kubernetes: "$patch": "replace" or "delete" in an object, "$deleteFromPrimitiveList/nets": [...] to remove
elements from a list, "$setElementOrder/..." and "$retainKeys".

json is a list of operations (RFC 6902).

The result is checked as strictly as a manifest.`,
		Example: `  margayctl patch ippool vms-v4 -p '{"spec": {"disabled": true}}'
  margayctl patch felixconfiguration default -p 'spec: {bpfLogLevel: Debug}'
  margayctl patch gnp web -t json -p '[{"op": "replace", "path": "/spec/ingress/0/action", "value": "Deny"}]'`,
		Args:              arguments.Exactly(2, "KIND NAME"),
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
	cmd.Flags().StringVarP(&text, "patch", "p", "", "the change, in JSON or YAML")
	cmd.Flags().StringVarP(&kind, "type", "t", "strategic", "strategic, merge or json")
	return cmd
}

// patcher turns the JSON of an object into the JSON of the changed object.
type patcher func(original []byte) ([]byte, error)

func parsePatch(kind, text string) (patcher, error) {
	if !slices.Contains(patchTypes[:], kind) {
		return nil, hints.With(fmt.Errorf("patch type %q: want strategic, merge or json", kind), hints.DidYouMean(kind, patchTypes[:]))
	}
	if strings.TrimSpace(text) == "" {
		return nil, errors.New(`no change is given: add -p PATCH, for example -p '{"spec": {"order": 10}}'`)
	}
	if err := api.CheckText([]byte(text)); err != nil {
		return nil, fmt.Errorf("the patch is neither JSON nor YAML: %w", err)
	}
	raw, err := jsonOf(text)
	if err != nil {
		return nil, fmt.Errorf("the patch is neither JSON nor YAML: %w", err)
	}
	if kind == "json" {
		return parseOperations(raw)
	}
	if !bytes.HasPrefix(raw, []byte("{")) {
		return nil, errors.New(`the patch is not an object such as {"spec": {"order": 10}}; for a list of operations say -t json`)
	}
	if kind == "strategic" {
		return func(original []byte) ([]byte, error) { return strategicMerge(original, raw) }, nil
	}
	return func(original []byte) ([]byte, error) { return jsonpatch.MergePatch(original, raw) }, nil
}

// jsonOf turns YAML into JSON. Dates and the names of fields are text; yes, no, on and off are truth values, as in YAML 1.1. A field
// that is given twice is an error.
func jsonOf(text string) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		return nil, err
	}
	setTypes(&root)
	var parsed any
	if err := root.Decode(&parsed); err != nil {
		return nil, err
	}
	return json.Marshal(parsed)
}

// setTypes gives the scalars of a document the types that JSON has.
func setTypes(n *yaml.Node) {
	for i, inner := range n.Content {
		setTypes(inner)
		if n.Kind == yaml.MappingNode && i%2 == 0 && inner.Kind == yaml.ScalarNode && inner.ShortTag() != "!!merge" {
			inner.Tag = "!!str"
		}
	}
	if n.Kind != yaml.ScalarNode {
		return
	}
	switch tag := n.ShortTag(); {
	case tag == "!!timestamp":
		n.Tag = "!!str"
	case tag == "!!str" && n.Style == 0:
		switch strings.ToLower(n.Value) {
		case "y", "yes", "on":
			n.Tag, n.Value = "!!bool", "true"
		case "n", "no", "off":
			n.Tag, n.Value = "!!bool", "false"
		}
	}
}

// parseOperations parses a list of operations (RFC 6902). It checks the fields that the library expects without checking.
func parseOperations(raw []byte) (patcher, error) {
	var operations jsonpatch.Patch
	if err := json.Unmarshal(raw, &operations); err != nil {
		return nil, fmt.Errorf(`the patch is not a list of operations such as [{"op": "remove", "path": "/spec/order"}]: %w`, err)
	}
	needs := map[string][]string{
		"add": {"value"}, "replace": {"value"}, "test": {"value"}, "remove": nil, "move": {"from"}, "copy": {"from"},
	}
	for i, operation := range operations {
		more, known := needs[operation.Kind()]
		if !known {
			names := slices.Sorted(maps.Keys(needs))
			err := fmt.Errorf("operation %d: op %q: want one of %s", i+1, operation.Kind(), strings.Join(names, ", "))
			return nil, hints.With(err, hints.DidYouMean(operation.Kind(), names))
		}
		for _, field := range append([]string{"op", "path"}, more...) {
			text, given := operation[field]
			if !given || field != "value" && (text == nil || !bytes.HasPrefix(*text, []byte(`"`))) {
				return nil, fmt.Errorf("operation %d: %s needs %s", i+1, operation.Kind(), field)
			}
		}
	}
	return func(original []byte) (changed []byte, err error) {
		defer func() {
			if panicked := recover(); panicked != nil { // the library panics on some input
				changed, err = nil, fmt.Errorf("the operations cannot be carried out: %v", panicked)
			}
		}()
		return operations.Apply(original)
	}, nil
}

func (s *session) patch(ctx context.Context, o api.Object, at scope, p patcher) error {
	if err := at.resolve(o); err != nil {
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
		if why := s.lockout(ctx, st, changed); why != "" {
			fmt.Fprint(s.stderr, warningLine(changed, why))
		}
		_, err = st.Update(ctx, changed)
		return err
	})
	if err != nil {
		return fmt.Errorf("hit error: %w", err)
	}
	fmt.Fprintf(s.stdout, "Successfully patched 1 '%s' resource\n", o.Type().Kind)
	s.warn(ctx, st, changed)
	return nil
}

// applyPatch returns the changed object. It keeps its identity, and its version unless the patch names another.
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
	return changed, changedMetadata(*current.Meta(), changed.Meta())
}

// changedMetadata refuses a change of metadata that identifies the object or belongs to the datastore.
func changedMetadata(before api.Metadata, after *api.Metadata) error {
	after.Rest = before.Rest // unknown fields, which no patch sees; those of rules are in the rules
	before.Labels, before.Annotations = after.Labels, after.Annotations
	before.Finalizers, before.OwnerReferences = after.Finalizers, after.OwnerReferences
	before.ResourceVersion = after.ResourceVersion
	before.Unsealed = after.Unsealed // a detail of the stored form, which no patch sees
	if !reflect.DeepEqual(before, *after) {
		return errors.New("a patch may change only these fields of the metadata: labels, annotations, finalizers, ownerReferences, and resourceVersion, which names the version to patch")
	}
	return nil
}

// decodePatched decodes the result strictly. If the stored object already has fields that this version does not know, they
// are kept, and only the patch itself is checked strictly.
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
		return nil, fmt.Errorf("the patch makes %d objects out of %s: it must leave one", len(objects), api.KeyOf(current))
	}
	return objects[0], nil
}

// checkAlone checks a patch strictly by applying it to an object that has only a name. It accepts a patch that does not fit
// such an object, as most lists of operations.
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
