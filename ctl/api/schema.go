package api

import (
	"encoding/json"
	"reflect"
)

// Schema is a JSON Schema (draft 2020-12), as far as this interface needs one. Its members come out in this order.
type Schema struct {
	Description string `json:"description,omitempty"`
	// Type is a word, or a list of words where null is possible too.
	Type                 any         `json:"type,omitempty"`
	Format               string      `json:"format,omitempty"`
	Enum                 []string    `json:"enum,omitempty"`
	Default              any         `json:"default,omitempty"`
	Minimum              json.Number `json:"minimum,omitempty"`
	Maximum              json.Number `json:"maximum,omitempty"`
	Items                *Schema     `json:"items,omitempty"`
	Properties           *Properties `json:"properties,omitempty"`
	Required             []string    `json:"required,omitempty"`
	AdditionalProperties any         `json:"additionalProperties,omitempty"`
}

// Properties are an object's members in the order of the struct, which is the order to read them in.
type Properties []Property

// Property is one member of an object.
type Property struct {
	Name   string
	Schema *Schema
}

// MarshalJSON writes an object whose members keep their order.
func (p Properties) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i := range p {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, p[i].Name), ':')
		text, err := json.Marshal(p[i].Schema)
		if err != nil {
			return nil, err
		}
		b = append(b, text...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads an object and keeps the order of its members.
func (p *Properties) UnmarshalJSON(text []byte) error {
	v, _, err := ParseJSON(text)
	if err != nil {
		return err
	}
	*p = Properties{}
	for i := range v.Members {
		schema := new(Schema)
		if err := json.Unmarshal(v.Members[i].Value.AppendJSON(nil), schema); err != nil {
			return err
		}
		*p = append(*p, Property{v.Members[i].Name, schema})
	}
	return nil
}

// schemaOf describes a type. open says that objects may hold members which are not listed.
func schemaOf(t reflect.Type, open bool) *Schema {
	switch {
	case t == rawType || t == anyType:
		return &Schema{}
	case t == reflect.TypeFor[Schema]():
		return &Schema{Type: "object", Description: "a JSON Schema"} // its own would have no end
	case t.Kind() == reflect.Pointer:
		s := schemaOf(t.Elem(), open)
		if word, ok := s.Type.(string); ok {
			s.Type = []string{word, "null"}
		}
		return s
	}
	switch t.Kind() {
	case reflect.Struct:
		s := &Schema{Type: "object", Properties: &Properties{}}
		if !open {
			s.AdditionalProperties = false
		}
		for _, f := range fields(t) {
			*s.Properties = append(*s.Properties, Property{f.name, f.schema(t.FieldByIndex(f.index).Type, open)})
			if f.required {
				s.Required = append(s.Required, f.name)
			}
		}
		return s
	case reflect.Slice:
		return &Schema{Type: "array", Items: schemaOf(t.Elem(), open)}
	case reflect.Map:
		return &Schema{Type: "object", AdditionalProperties: schemaOf(t.Elem(), open)}
	case reflect.String:
		return &Schema{Type: "string"}
	case reflect.Bool:
		return &Schema{Type: "boolean"}
	}
	low, high, whole := limits(t)
	if !whole {
		return &Schema{Type: "number"}
	}
	return &Schema{Type: "integer", Minimum: json.Number(low), Maximum: json.Number(high)}
}

func (f *field) schema(t reflect.Type, open bool) *Schema {
	s := schemaOf(base(t), open)
	s.Description = f.doc
	word := s
	if s.Items != nil {
		word = s.Items
	}
	word.Enum, word.Format = f.enum, f.format
	if f.min != nil {
		word.Minimum = json.Number(trimFloat(*f.min))
	}
	if f.max != nil {
		word.Maximum = json.Number(trimFloat(*f.max))
	}
	if f.deflt != nil {
		switch base(t).Kind() {
		case reflect.String:
			s.Default = *f.deflt
		default: // a number or a boolean is written in JSON as in the tag
			s.Default = json.RawMessage(*f.deflt)
		}
	}
	return s
}

func trimFloat(n float64) string {
	text, _ := json.Marshal(n) // a tag holds no infinity
	return string(text)
}
