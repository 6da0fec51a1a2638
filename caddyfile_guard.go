package failover

import "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

// readCommit reads `commit headers|first_byte|complete [<size>]`.
func readCommit(r *reader, d *caddyfile.Dispenser, p *Policy) error {
	word, err := argument(d)
	if err != nil {
		return err
	}
	p.Commit = &Commit{After: word}
	if d.CountRemainingArgs() > 0 {
		if err := size(func(c *Commit) *int64 { return &c.Size }).read(r, d, p.Commit); err != nil {
			return err
		}
	}
	return wrap(d, p.Commit.validate())
}
