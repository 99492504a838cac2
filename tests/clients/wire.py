"""The PostgreSQL wire protocol, as little of it as a comparison needs: it sends what it is told and hides nothing.

It does not interpret, retry or repair, so that what it returns is what came over the wire, in order.
"""

import socket
import struct

WAIT_SECONDS = 20
NOTHING_MORE = (b'!', b'')
PROTOCOL_3_0 = 196608
SSL_REQUEST = 80877103
FATAL_SEVERITIES = (b'FATAL', b'PANIC')

TEXT, BINARY = 0, 1


def frame(kind, body=b''):
    return kind + struct.pack('!i', len(body) + 4) + body


def cstring(text):
    return (text if isinstance(text, bytes) else text.encode()) + b'\0'


def query(sql):
    return frame(b'Q', cstring(sql))


def parse(sql, name='', types=()):
    return frame(b'P', cstring(name) + cstring(sql) + struct.pack(f'!h{len(types)}I', len(types), *types))


def bind(values=(), portal='', statement='', formats=(), results=()):
    """`values` are bytes or None; `formats` and `results` are the format codes of parameters and columns."""
    body = cstring(portal) + cstring(statement) + struct.pack(f'!h{len(formats)}h', len(formats), *formats)
    body += struct.pack('!h', len(values))
    for value in values:
        body += struct.pack('!i', -1) if value is None else struct.pack('!i', len(value)) + value
    return frame(b'B', body + struct.pack(f'!h{len(results)}h', len(results), *results))


def describe(kind, name=''):
    return frame(b'D', kind.encode() + cstring(name))


def execute(portal='', rows=0):
    return frame(b'E', cstring(portal) + struct.pack('!i', rows))


def close(kind, name=''):
    return frame(b'C', kind.encode() + cstring(name))


def flush():
    return frame(b'H')


def sync():
    return frame(b'S')


def terminate():
    return frame(b'X')


def error_fields(body):
    """The fields of an ErrorResponse or NoticeResponse, by their letter."""
    return {chr(field[0]): field[1:].decode(errors='replace') for field in body.split(b'\0') if field}


class Connection:
    """One connection. `greeting` is all that the server said up to its first ReadyForQuery, or to its refusal."""

    def __init__(self, port, parameters, ssl_request=False):
        self.socket = socket.create_connection(('127.0.0.1', port), WAIT_SECONDS)
        self.buffer, self.ssl_answer = b'', None
        if ssl_request:
            self.send(struct.pack('!ii', 8, SSL_REQUEST))
            self.ssl_answer = self.socket.recv(1)
        body = b''.join(cstring(name) + cstring(value) for name, value in parameters) + b'\0'
        self.send(struct.pack('!ii', len(body) + 8, PROTOCOL_3_0) + body)
        self.greeting = self.until_ready()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """The next message as (type, body); `NOTHING_MORE` when the connection ends or stays silent."""
        while len(self.buffer) < 5 or len(self.buffer) < 1 + struct.unpack('!i', self.buffer[1:5])[0]:
            try:
                data = self.socket.recv(65536)
            except OSError as silence:
                return NOTHING_MORE[0], type(silence).__name__.encode()
            if not data:
                return NOTHING_MORE
            self.buffer += data
        end = 1 + struct.unpack('!i', self.buffer[1:5])[0]
        message, self.buffer = (self.buffer[:1], self.buffer[5:end]), self.buffer[end:]
        return message

    def until_any(self, kinds):
        """All messages up to the first of one of these types, or up to the end of the connection."""
        messages = [self.receive()]
        while messages[-1][0] not in (*kinds, NOTHING_MORE[0]):
            messages.append(self.receive())
        return messages

    def until_ready(self):
        return self.until_any((b'Z',))

    def close(self):
        try:
            self.send(terminate())
        except OSError:
            pass
        self.socket.close()
