package ctl

import (
	"context"
	"fmt"
	"slices"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/internal/version"
)

// registerMethodMethods adds the methods about methods.
func registerMethodMethods(r *Registry) {
	Register(r, api.RPCGetMethods, func(_ context.Context, p *api.RPCGetMethodsParams) ([]string, error) {
		specs := r.Specs(p.Current)
		names := methodNames(specs)
		if p.IncludeAliases {
			for _, s := range specs {
				names = append(names, s.Aliases...)
			}
			slices.Sort(names)
		}
		return names, nil
	})
	Register(r, api.SPDKGetVersion, func(context.Context, *api.None) (api.Version, error) {
		return api.Version{
			Version: fmt.Sprintf("SPDK v%d.%02d interface, Pollux v%s", version.SPDKMajor, version.SPDKMinor, version.Pollux),
			Fields:  api.VersionFields{Major: version.SPDKMajor, Minor: version.SPDKMinor, Commit: version.Commit()},
		}, nil
	})
	Register(r, api.EngineGetSchema, func(_ context.Context, p *api.EngineGetSchemaParams) (api.EngineSchema, error) {
		return r.schema(p.Method)
	})
}

// schema describes one method, or all.
func (r *Registry) schema(name string) (api.EngineSchema, error) {
	out := api.EngineSchema{Dialect: "https://json-schema.org/draft/2020-12/schema"}
	for _, spec := range r.Specs(false) {
		if name == "" || name == spec.Name {
			out.Methods = append(out.Methods, schemaOf(spec))
		}
	}
	if name != "" && out.Methods == nil {
		return out, api.Invalid("engine_get_schema: %s", r.unknown(name).Message)
	}
	return out, nil
}

func schemaOf(spec *api.Spec) api.MethodSchema {
	s := api.MethodSchema{
		Name: spec.Name, Description: spec.Doc, Reads: spec.Reads, Role: spec.Role.String(),
		Params: spec.ParamsSchema(), Result: spec.ResultSchema(),
	}
	for _, state := range []api.State{api.Startup, api.Runtime} {
		if spec.States&state != 0 {
			s.States = append(s.States, state.String())
		}
	}
	return s
}
