package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	maxDocument = 10 << 20 // bytes; largest document
	maxAliases  = 10 << 20 // bytes; largest total size of the expanded aliases of one document
	maxNesting  = 100      // lists and fields inside of each other
)

// value is a node of a YAML or JSON document. Its text is kept as written, so that a label's value 1.10 does not become 1.1.
type value struct {
	kind   valueKind
	text   string // of a scalar, as written
	plain  bool   // the scalar has no quotes
	number string // of a number, as JSON writes it
	fields []member
	items  []value
	line   int
}

type member struct {
	name  string
	value value
}

type valueKind string

const (
	nullValue    valueKind = "nothing"
	textValue    valueKind = "text"
	numberValue  valueKind = "a number"
	booleanValue valueKind = "true or false"
	listValue    valueKind = "a list"
	fieldsValue  valueKind = "fields"
)

// chunk is a part of the input: one document, or several that only the parser can tell apart.
type chunk struct {
	text []byte
	line int // number of its first line in the input, from 0
}

// split cuts the input where a line begins with ---, as YAML does, so that a document with an error does not hide the next one.
func split(data []byte) []chunk {
	var chunks []chunk
	start, startLine, line, content := 0, 0, 0, false
	for at := 0; at < len(data); line++ {
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		text := data[at:end]
		marker := isMarker(text, "---")
		if marker && content {
			chunks = append(chunks, chunk{data[start:at], startLine})
			start, startLine = at, line
		}
		word := bytes.TrimSpace(text)
		content = marker || content || len(word) > 0 && word[0] != '#' && word[0] != '%'
		at = end
		if isMarker(text, "...") {
			chunks = append(chunks, chunk{data[start:at], startLine})
			start, startLine, content = at, line+1, false
		}
	}
	return append(chunks, chunk{data[start:], startLine})
}

func isMarker(line []byte, marker string) bool {
	return bytes.HasPrefix(line, []byte(marker)) && (len(line) == 3 || strings.IndexByte(" \t\r\n", line[3]) >= 0)
}

// documents parses the documents of a chunk, and leaves out empty ones.
func (c chunk) documents() (docs []value, err error) {
	if len(c.text) > maxDocument {
		return nil, fmt.Errorf("larger than %d MB: split it into several documents with ---", maxDocument>>20)
	}
	if err := c.notText(); err != nil {
		return nil, err
	}
	if docs, ok := c.json(); ok {
		return docs, nil
	}
	defer func() {
		if panicked := recover(); panicked != nil { // the YAML library panics on some input
			docs, err = nil, fmt.Errorf("not readable as YAML or JSON: %v", panicked)
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(c.text))
	for {
		var root yaml.Node
		if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
			return docs, nil
		} else if err != nil {
			return nil, c.syntaxError(err)
		}
		r := yamlReader{budget: maxAliases, firstLine: c.line, marks: marksIn(c.text)}
		doc, err := r.read(&root, 0)
		if err != nil {
			return nil, err
		}
		if doc.kind != nullValue {
			docs = append(docs, doc)
		}
	}
}

// syntaxError rewords an error of the parser, and turns its line in the chunk into the line in the whole input.
func (c chunk) syntaxError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ") + c.markHint()
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, message, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				return fmt.Errorf("line %d: not valid YAML: %s", n+c.line, message)
			}
		}
	}
	return fmt.Errorf("not valid YAML: %s", text)
}

// markHint returns a hint about the first line in which a value begins with !. The parser's error does not mention this cause.
func (c chunk) markHint() string {
	number := c.line
	for line := range bytes.Lines(c.text) {
		number++
		if !bytes.HasPrefix(bytes.TrimSpace(line), []byte("#")) && markedValue.Match(line) {
			return fmt.Sprintf("; in line %d text begins with !, which YAML reads as a tag: put the whole text in quotes", number)
		}
	}
	return ""
}

// json parses a chunk that is JSON: one value, or several in a row, as jq prints them. YAML parsers do not accept all of JSON. It
// returns false if the chunk is not JSON.
func (c chunk) json() ([]value, bool) {
	if isMarker(c.text, "---") {
		c.text = c.text[3:]
	}
	if text := bytes.TrimSpace(c.text); len(text) == 0 || text[0] != '{' && text[0] != '[' {
		return nil, false
	}
	r := jsonReader{chunk: c, decoder: json.NewDecoder(bytes.NewReader(c.text)), line: c.line + 1}
	r.decoder.UseNumber()
	var docs []value
	for {
		doc, err := r.value(0)
		if errors.Is(err, io.EOF) {
			return docs, true
		}
		if err != nil {
			return nil, false // the YAML parser reports the error, if it is one for YAML too
		}
		docs = append(docs, doc)
	}
}

// jsonReader builds values from the tokens of a decoder, and counts lines.
type jsonReader struct {
	chunk   chunk
	decoder *json.Decoder
	at      int // offset up to which lines are counted
	line    int
}

func (r *jsonReader) token() (json.Token, error) {
	token, err := r.decoder.Token()
	if end := int(r.decoder.InputOffset()); end > r.at {
		r.line += bytes.Count(r.chunk.text[r.at:end], []byte("\n"))
		r.at = end
	}
	return token, err
}

func (r *jsonReader) value(depth int) (value, error) {
	token, err := r.token()
	if err != nil {
		return value{}, err
	}
	if depth > maxNesting {
		return value{}, errNesting
	}
	v := value{line: r.line}
	switch token := token.(type) {
	case string:
		v.kind, v.text = textValue, token
	case json.Number:
		v.kind, v.text, v.number, v.plain = numberValue, string(token), string(token), true
	case bool:
		v.kind, v.text, v.plain = booleanValue, strconv.FormatBool(token), true
	case json.Delim:
		return r.nested(v, token, depth)
	default:
		v.kind = nullValue
	}
	return v, nil
}

func (r *jsonReader) nested(v value, open json.Delim, depth int) (value, error) {
	v.kind = listValue
	if open == '{' {
		v.kind = fieldsValue
	}
	for r.decoder.More() {
		var name string
		if open == '{' {
			token, err := r.token()
			if err != nil {
				return value{}, err
			}
			name, _ = token.(string)
		}
		inner, err := r.value(depth + 1)
		if err != nil {
			return value{}, noEnd(err)
		}
		if open == '{' {
			v.fields = append(v.fields, member{name, inner})
		} else {
			v.items = append(v.items, inner)
		}
	}
	_, err := r.token()
	return v, noEnd(err)
}

// noEnd turns an end of the text inside of a value into an error of its own: after a value it is no error.
func noEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

var errNesting = fmt.Errorf("nested more than %d deep", maxNesting)

// yamlReader turns YAML nodes into values. It expands aliases up to a budget, because a few lines of YAML can expand to
// gigabytes.
type yamlReader struct {
	budget    int // bytes left for expanded aliases
	aliases   int // depth of the aliases being expanded
	firstLine int
	marks     marks
}

func (r *yamlReader) read(n *yaml.Node, depth int) (value, error) {
	line := n.Line + r.firstLine
	if r.aliases > 0 {
		r.budget -= 16 + len(n.Value)
	}
	if r.budget < 0 {
		return value{}, fmt.Errorf("line %d: aliases stand for more than %d MB: write the document out", line, maxAliases>>20)
	}
	if depth > maxNesting {
		return value{}, fmt.Errorf("line %d: %w", line, errNesting)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) == 1 {
			return r.read(n.Content[0], depth)
		}
	case yaml.AliasNode:
		r.aliases++
		v, err := r.read(n.Alias, depth+1)
		r.aliases--
		return v, err
	case yaml.SequenceNode:
		v := value{kind: listValue, line: line}
		for _, c := range n.Content {
			item, err := r.read(c, depth+1)
			if err != nil {
				return value{}, err
			}
			v.items = append(v.items, item)
		}
		return v, nil
	case yaml.MappingNode:
		return r.mapping(n, depth, line)
	case yaml.ScalarNode:
		if r.marks.at(n) {
			return value{}, lostMark(line, "! "+n.Value)
		}
		return scalar(n, line)
	}
	return value{kind: nullValue, line: line}, nil
}

func (r *yamlReader) mapping(n *yaml.Node, depth, line int) (value, error) {
	v := value{kind: fieldsValue, line: line}
	var merged []member
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, err := r.read(n.Content[i], depth+1)
		if err != nil {
			return value{}, err
		}
		inner, err := r.read(n.Content[i+1], depth+1)
		switch {
		case err != nil:
			return value{}, err
		case n.Content[i].Kind == yaml.ScalarNode && n.Content[i].ShortTag() == "!!merge":
			merged = append(merged, mergedFields(inner)...)
		case key.kind == listValue || key.kind == fieldsValue:
			return value{}, fmt.Errorf("line %d: the name of a field must be text", key.line)
		default:
			v.fields = append(v.fields, member{key.text, inner})
		}
	}
	return withMerged(v, merged), nil
}

// mergedFields returns the fields of <<: *alias, or of a list of aliases, in which the first alias has priority.
func mergedFields(v value) []member {
	fields := v.fields
	for _, item := range v.items {
		fields = append(fields, item.fields...)
	}
	return fields
}

// withMerged adds merged fields to v, except those that v has already.
func withMerged(v value, merged []member) value {
	if len(merged) == 0 {
		return v
	}
	given := map[string]bool{}
	for _, m := range v.fields {
		given[m.name] = true
	}
	for _, m := range merged {
		if !given[m.name] {
			given[m.name] = true
			v.fields = append(v.fields, m)
		}
	}
	return v
}

func scalar(n *yaml.Node, line int) (value, error) {
	v := value{kind: textValue, text: n.Value, plain: n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0, line: line}
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!timestamp", "!!merge":
	case "!!null":
		v.kind = nullValue
	case "!!bool":
		v.kind, v.text = booleanValue, strings.ToLower(n.Value)
	case "!!int", "!!float":
		v.kind = numberValue
		var number any
		if err := n.Decode(&number); err != nil {
			return value{}, fmt.Errorf("line %d: %q is not a number", line, n.Value)
		}
		text, err := json.Marshal(number)
		if err != nil {
			return value{}, fmt.Errorf("line %d: %s is not a number that can be stored: want a finite number", line, n.Value)
		}
		v.number = string(text)
	default:
		if isPlainTag(tag) {
			return value{}, fmt.Errorf("line %d: the tag %s is not supported: write plain text, numbers, lists and fields", line, tag)
		}
		return value{}, lostMark(line, tag)
	}
	return v, nil
}

// isPlainTag says whether a tag is one that YAML defines, such as !!binary. Any other is probably a selector that begins with !.
func isPlainTag(tag string) bool {
	name, ok := strings.CutPrefix(tag, "!!")
	return ok && name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz") == ""
}

// lostMark returns the error for text that begins with ! and has no quotes. YAML removes the beginning, as a tag: !has(x) would
// become empty text, which selects everything, and ! has(x) would become has(x).
func lostMark(line int, tag string) error {
	return fmt.Errorf("line %d: %s begins with !, which YAML reads as a tag: put the whole text in quotes, as in \"!has(role)\"", line, tag)
}

// marks finds values that begin with ! and a blank: the YAML parser drops the ! without a trace. lines is the text of the chunk.
type marks struct{ lines [][]rune }

var (
	droppedMark = regexp.MustCompile(`![ \t\r\n]`)
	markedValue = regexp.MustCompile(`(^|[:,\-\[{])\s*!`)
	nodeAnchor  = regexp.MustCompile(`^&\S+\s+`)
)

func marksIn(text []byte) marks {
	if !droppedMark.Match(text) {
		return marks{} // the usual case
	}
	var m marks
	for line := range bytes.Lines(text) {
		m.lines = append(m.lines, []rune(string(line)))
	}
	return m
}

func (m marks) at(n *yaml.Node) bool {
	if n.Line < 1 || n.Line > len(m.lines) || n.Column < 1 || n.Column > len(m.lines[n.Line-1]) {
		return false
	}
	rest := string(m.lines[n.Line-1][n.Column-1:])
	return droppedMark.MatchString(rest) && strings.HasPrefix(rest[len(nodeAnchor.FindString(rest)):], "!")
}
