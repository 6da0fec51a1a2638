package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
)

// A bot sends messages through Telegram's API. The library only reads its URL, because the library's
// own client reports an error of the network as a success.
type bot struct {
	*poster
	chats  []string
	silent bool
	bare   bool // links have no preview
}

const telegramAPI = "https://api.telegram.org/bot"

// newBot returns the sender for a telegram:// URL.
func newBot(s *telegram.Service) (*bot, error) {
	c := s.GetConfig()
	u, err := url.Parse(telegramAPI + c.Token + "/sendMessage")
	if err != nil {
		return nil, fmt.Errorf("reading the token: %w", err)
	}
	return &bot{newPoster(u), c.Chats, !c.Notification, !c.Preview}, nil
}

// longestMessage is the length of the longest message. The API counts characters; bytes are never
// fewer.
const longestMessage = 4096

// send implements sender. See https://core.telegram.org/bots/api#sendmessage.
func (b *bot) send(ctx context.Context, n *Notice) error {
	for i, chat := range b.chats {
		chat, thread, _ := strings.Cut(chat, ":")
		number, _ := strconv.Atoi(thread)
		body, err := json.Marshal(struct {
			Chat   string `json:"chat_id"`
			Thread int    `json:"message_thread_id,omitempty"`
			Text   string `json:"text"`
			Silent bool   `json:"disable_notification,omitempty"`
			Bare   bool   `json:"disable_web_page_preview,omitempty"`
		}{chat, number, cut(noMentions.Replace(n.Text), longestMessage), b.silent, b.bare})
		if err != nil {
			return fmt.Errorf("encoding the message: %w", err)
		}
		if err := b.post(ctx, body); err != nil && i > 0 {
			return fmt.Errorf("%w: %w", errPartly, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// cut shortens a text to at most n bytes.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n-3], "") + "..."
}
