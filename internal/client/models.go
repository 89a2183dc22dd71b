package client

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

func modelsCommand(o *connection) *cobra.Command {
	provider := ""
	list := func(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
		found := 0
		models := pawlv1.NewModelServiceClient(conn)
		err := listing[*pawlv1.Model]{
			head: "MODEL\tWINDOW\tVISION\tTHINKING\tIN/OUT $\tCACHE R/W $\tKEY\tPROBLEM",
			page: func(size int32, token string) ([]*pawlv1.Model, string, error) {
				res, err := models.ListModels(c.Context(), &pawlv1.ListModelsRequest{
					PageSize: size, PageToken: token, Provider: provider,
				})
				found += len(res.GetModels())
				return res.GetModels(), res.GetNextPageToken(), err
			},
			row: modelRow,
		}.print(c, o)
		if err == nil && found == 0 && provider != "" {
			err = fmt.Errorf("no models are known of a provider %q: docs/models.md has the providers", provider)
		}
		return err
	}
	listed := o.limited(o.calls("list", "List models", list))
	listed.Flags().StringVar(&provider, "provider", "", "`NAME`: all models that are known of this provider")
	return o.group(&cobra.Command{
		Use: "models", Short: "List models, and what is known of them",
		Long: "List models, and what is known of them: those that agents name and those of the providers file, or " +
			"all that are known of one provider. Prices are US dollars per million tokens. KEY is the environment " +
			"variable of control that holds the key, and whether it is set.",
		Example: "control models list\ncontrol models list --provider anthropic -o json",
	}, listed)
}

func modelRow(m *pawlv1.Model) []string {
	window, vision, thinking, price, cached, key := "?", "?", "?", "?", "?", "none"
	if m.Window != nil {
		window = strconv.FormatInt(m.GetWindow(), 10)
	}
	if m.Vision != nil {
		vision = yesOrNo(m.GetVision())
	}
	if m.Thinking != nil {
		thinking = yesOrNo(m.GetThinking())
	}
	if len(m.GetThinkingLevels()) > 0 && m.GetThinking() {
		thinking = strings.Join(m.GetThinkingLevels(), ",")
	}
	if p := m.GetPrice(); p != nil {
		price = dollars(p.GetInput()) + "/" + dollars(p.GetOutput())
		cached = dollars(p.GetCacheRead()) + "/" + dollars(p.GetCacheWrite())
	}
	switch {
	case m.GetKeyEnv() == "":
	case m.GetKeySet():
		key = m.GetKeyEnv() + " (set)"
	default:
		key = m.GetKeyEnv() + " (not set)"
	}
	return []string{m.GetModel(), window, vision, thinking, price, cached, key, oneLine(m.GetProblem(), 60)}
}

func yesOrNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func dollars(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
