"""uvicorn's WebSocket protocol, mended where a client can make it fail."""

from typing import Literal

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State


class SocketProtocol(WebSocketsSansIOProtocol):
    """Closes with 1007 on text that is not UTF-8, as RFC 6455 says. uvicorn writes a traceback into the log for each,
    and breaks the connection off when the client's own close frame came in the same packet."""

    curr_msg_data_type: Literal["text", "bytes"]

    def send_receive_event_to_app(self) -> None:
        """The message is whole: it goes to the application."""
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_text(b"".join(self.frames)):
            self.frames = []
            if self.conn.state is State.OPEN:
                self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True
