package websocket

import (
	"bufio"
	"fmt"
	"net/http"
)

// Serve accepts a WebSocket on a hijacked connection, with extra header fields, and sends
// back each text. It returns when the connection ends or the client has sent LastMessage.
// The caller closes the connection.
func Serve(rw *bufio.ReadWriter, r *http.Request, header http.Header) {
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n",
		accepts(r.Header.Get("Sec-WebSocket-Key")))
	_ = header.Write(rw) // Flush returns its error
	fmt.Fprint(rw, "\r\n")
	for rw.Flush() == nil {
		text, err := readText(rw.Reader)
		if err != nil || text == LastMessage {
			return
		}
		rw.Write([]byte{textFrame, byte(len(text))})
		rw.WriteString(text)
	}
}
