// A load for an etcd cluster, as redis-benchmark is one for Redis: one thread, callers with one call each under way,
// random keys named as redis-benchmark names them. Its own CPU time is a few percent of etcd's, so that what is measured
// is etcd, also where all share two processors.
//
//   etcdload load|put|range PORT,PORT,... leader|follower CALLERS SECONDS KEYS VALUE-BYTES
//
// load puts every key once, 100 in a transaction, and prints nothing. put and range warm up for half of SECONDS, count
// for SECONDS and print "calls a second,p99 ms,calls with the warm-up,own CPU seconds per million calls". Everything goes
// to one server: the leader, or one that is not. Any error ends the program with a message and code 1.
//
// gRPC by hand: HTTP/2 without TLS and without an upgrade (RFC 9113), headers by HPACK (RFC 7541), one message is
// u8 0 | u32 length | protobuf. What comes back is not HPACK-decoded: etcd answers a call that failed with headers alone,
// and one that succeeded with a message, which is looked at.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    CALLERS_PER_CONNECTION = 5,
    CONNECTIONS_MAX = 20,
    STREAMS_MAX = 1000,
    KEYS_PER_TRANSACTION = 100,
    VALUE_BYTES_MAX = 100, // a transaction must fit into one frame of 16 KiB
    BUFFER_BYTES = 1 << 18,
    BUCKET_US = 10,
    BUCKETS = 100000,
    FRAME_HEADER_BYTES = 9,
};

enum frame_type { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8 };

struct bytes {
    unsigned char at[BUFFER_BYTES];
    size_t count;
};

// A call under way. Streams are numbered 1, 3, 5...; a call is found by its number, as only few are under way.
struct call {
    uint32_t stream; // 0: free
    double began;
    size_t answered;
};

struct connection {
    int socket;
    uint32_t stream_next;
    long window;           // bytes of DATA that may still be sent
    long received;         // bytes of DATA since our last WINDOW_UPDATE
    int headers_are_known; // the server has our headers in its table
    struct bytes in, out;
    struct call calls[STREAMS_MAX];
};

static struct connection connections[CONNECTIONS_MAX];
static int connection_count, poller;
static const char *method;
static int keys, value_bytes, key_next;
static char verb;
static unsigned char last_answer[4096]; // start of the last DATA frame's payload
static size_t last_answer_bytes;
static long calls_all, calls_measured, under_way, buckets[BUCKETS];
static double measure_from, measure_until;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("etcdload: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void put_bytes(struct bytes *to, const void *from, size_t count) {
    if (to->count + count > BUFFER_BYTES) die("a buffer is full");
    memcpy(to->at + to->count, from, count);
    to->count += count;
}

static void put_byte(struct bytes *to, unsigned char byte) { put_bytes(to, &byte, 1); }

static void put_u32(struct bytes *to, uint32_t value) {
    value = htonl(value);
    put_bytes(to, &value, 4);
}

static uint32_t get_u32(const unsigned char *from) {
    uint32_t value;
    memcpy(&value, from, 4);
    return ntohl(value);
}

// ---- protobuf (field numbers: rpc.proto of etcd 3.4) ----

static void put_field(struct bytes *to, int number, const void *content, size_t length) {
    put_byte(to, (unsigned char)(number << 3 | 2));
    size_t left = length;
    for (; left >= 0x80; left >>= 7) put_byte(to, (unsigned char)(left | 0x80));
    put_byte(to, (unsigned char)left);
    put_bytes(to, content, length);
}

static void put_key(struct bytes *to, int key) {
    char name[32];
    put_field(to, 1, name, (size_t)snprintf(name, sizeof name, "key:%012d", key)); // PutRequest, RangeRequest: key = 1
}

static void put_put(struct bytes *to, int key) {
    char value[VALUE_BYTES_MAX];
    memset(value, 'x', sizeof value);
    put_key(to, key);
    put_field(to, 2, value, (size_t)value_bytes); // PutRequest: value = 2
}

static void put_transaction(struct bytes *to, int first, int last) {
    static struct bytes request, operation;
    for (int key = first; key < last; key++) {
        request.count = operation.count = 0;
        put_put(&request, key);
        put_field(&operation, 2, request.at, request.count); // RequestOp: request_put = 2
        put_field(to, 2, operation.at, operation.count);     // TxnRequest: success = 2
    }
}

static uint64_t get_varint(const unsigned char **at, const unsigned char *end) {
    uint64_t value = 0;
    for (int shift = 0; *at < end && shift < 64; shift += 7) {
        unsigned char byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return value;
    }
    die("an answer is cut short");
}

// The value of a number, or where the content of a message begins (its length in *length); 0 if it is not there.
static uint64_t find_field(const unsigned char *at, size_t count, int number, const unsigned char **content, size_t *length) {
    const unsigned char *end = at + count;
    while (at < end) {
        uint64_t tag = get_varint(&at, end), value = get_varint(&at, end);
        int holds_bytes = (tag & 7) == 2;
        if ((tag & 7) != 0 && !holds_bytes) die("an answer has a field of a kind that etcd does not use");
        if (holds_bytes && value > (uint64_t)(end - at)) die("an answer is cut short");
        if ((int)(tag >> 3) == number) {
            *content = at;
            *length = holds_bytes ? (size_t)value : 0;
            return value;
        }
        if (holds_bytes) at += value;
    }
    return 0;
}

// ---- HTTP/2 ----

static void put_frame_header(struct bytes *to, size_t length, enum frame_type type, int flags, uint32_t stream) {
    unsigned char head[5] = {(unsigned char)(length >> 16), (unsigned char)(length >> 8), (unsigned char)length,
                             (unsigned char)type, (unsigned char)flags};
    put_bytes(to, head, sizeof head);
    put_u32(to, stream);
}

static void put_text(struct bytes *to, const char *text) {
    put_byte(to, (unsigned char)strlen(text)); // < 127, no Huffman code
    put_bytes(to, text, strlen(text));
}

// The same headers for every call: in full once, which puts four into the server's table, by their numbers afterwards.
static void put_headers(struct connection *c, uint32_t stream) {
    static struct bytes block;
    block.count = 0;
    put_byte(&block, 0x83); // :method POST
    put_byte(&block, 0x86); // :scheme http
    if (c->headers_are_known) {
        for (unsigned char index = 65; index >= 62; index--) put_byte(&block, 0x80 | index);
    } else {
        put_byte(&block, 0x40 | 4); // :path
        put_text(&block, method);
        put_byte(&block, 0x40 | 1); // :authority
        put_text(&block, "localhost");
        put_byte(&block, 0x40 | 31); // content-type
        put_text(&block, "application/grpc");
        put_byte(&block, 0x40);
        put_text(&block, "te");
        put_text(&block, "trailers");
        c->headers_are_known = 1;
    }
    put_frame_header(&c->out, block.count, HEADERS, END_HEADERS, stream);
    put_bytes(&c->out, block.at, block.count);
}

static void begin_call(struct connection *c, const struct bytes *message) {
    struct call *call = c->calls;
    while (call->stream) call++;
    *call = (struct call){.stream = c->stream_next, .began = now()};
    c->stream_next += 2;
    under_way++;
    c->window -= (long)message->count + 5;
    if (c->window < 0) die("etcd takes nothing more"); // it never lets this few calls come to that
    put_headers(c, call->stream);
    put_frame_header(&c->out, message->count + 5, DATA, END_STREAM, call->stream);
    put_byte(&c->out, 0);
    put_u32(&c->out, (uint32_t)message->count);
    put_bytes(&c->out, message->at, message->count);
}

static void begin_next(struct connection *c) {
    static struct bytes message;
    message.count = 0;
    if (verb == 'l') {
        if (key_next >= keys) return;
        int last = key_next + KEYS_PER_TRANSACTION < keys ? key_next + KEYS_PER_TRANSACTION : keys;
        put_transaction(&message, key_next, last);
        key_next = last;
    } else if (verb == 's') {
        if (calls_all > 0) return;
    } else {
        if (now() >= measure_until) return;
        int key = (int)(random() % keys);
        if (verb == 'p') put_put(&message, key);
        else put_key(&message, key);
    }
    begin_call(c, &message);
}

static void end_call(struct connection *c, struct call *call) {
    double ended = now();
    if (!call->answered) die("etcd refused a call");
    if (verb == 'r' && call->answered < (size_t)value_bytes) die("etcd does not have a key: load first");
    calls_all++;
    under_way--;
    if (ended >= measure_from && ended < measure_until) {
        long bucket = (long)((ended - call->began) * 1e6 / BUCKET_US);
        buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
        calls_measured++;
    }
    call->stream = 0;
    begin_next(c);
}

static void take_data(struct connection *c, struct call *call, const unsigned char *payload, size_t length, int flags) {
    if (flags & PADDED) die("etcd pads its frames");
    last_answer_bytes = length < sizeof last_answer ? length : sizeof last_answer;
    memcpy(last_answer, payload, last_answer_bytes);
    call->answered += length;
    c->received += (long)length;
    if (c->received > 1 << 29) {
        put_frame_header(&c->out, 4, WINDOW_UPDATE, 0, 0);
        put_u32(&c->out, (uint32_t)c->received);
        c->received = 0;
    }
}

static void take_frame(struct connection *c, int type, int flags, uint32_t stream, const unsigned char *payload, size_t length) {
    switch (type) {
        case SETTINGS:
            if (!(flags & ACK)) put_frame_header(&c->out, 0, SETTINGS, ACK, 0);
            return;
        case PING:
            if (flags & ACK) return;
            put_frame_header(&c->out, length, PING, ACK, 0);
            put_bytes(&c->out, payload, length);
            return;
        case WINDOW_UPDATE:
            if (stream == 0) c->window += get_u32(payload);
            return;
        case RST_STREAM:
        case GOAWAY: die("etcd closed a %s", type == GOAWAY ? "connection" : "call");
        case DATA:
        case HEADERS: break;
        default: return; // RFC 9113, 4.1: unknown types are ignored
    }

    struct call *call = c->calls;
    while (call < c->calls + STREAMS_MAX && call->stream != stream) call++;
    if (call == c->calls + STREAMS_MAX) die("an answer to no call");
    if (type == DATA) take_data(c, call, payload, length, flags);
    if (flags & END_STREAM) end_call(c, call);
}

static void take_frames(struct connection *c) {
    size_t at = 0;
    while (c->in.count - at >= FRAME_HEADER_BYTES) {
        const unsigned char *head = c->in.at + at;
        size_t length = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        if (c->in.count - at < FRAME_HEADER_BYTES + length) break;
        take_frame(c, head[3], head[4], get_u32(head + 5) & 0x7fffffff, head + FRAME_HEADER_BYTES, length);
        at += FRAME_HEADER_BYTES + length;
    }
    c->in.count -= at;
    memmove(c->in.at, c->in.at + at, c->in.count);
}

// ---- sockets ----

// All of it: what is under way is always less than the socket's buffer holds.
static void flush(struct connection *c) {
    for (size_t at = 0; at < c->out.count;) {
        ssize_t count = send(c->socket, c->out.at + at, c->out.count - at, MSG_NOSIGNAL);
        if (count < 0) die("send: %s", strerror(errno));
        at += (size_t)count;
    }
    c->out.count = 0;
}

static void open_connection(struct connection *c, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memset(c, 0, sizeof *c);
    c->socket = socket(AF_INET, SOCK_STREAM, 0);
    c->stream_next = 1;
    c->window = 65535;
    setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->socket, (struct sockaddr *)&address, sizeof address)) die("port %d: %s", port, strerror(errno));

    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    put_bytes(&c->out, preface, sizeof preface - 1);
    put_frame_header(&c->out, 6, SETTINGS, 0, 0);
    put_bytes(&c->out, "\0\4", 2); // SETTINGS_INITIAL_WINDOW_SIZE
    put_u32(&c->out, 1 << 30);
    put_frame_header(&c->out, 4, WINDOW_UPDATE, 0, 0);
    put_u32(&c->out, 1 << 30);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->socket, &event);
}

static void connect_all(int port, int count) {
    connection_count = count;
    poller = epoll_create1(0);
    for (int i = 0; i < count; i++) open_connection(&connections[i], port);
}

static void close_all(void) {
    for (int i = 0; i < connection_count; i++) close(connections[i].socket);
    close(poller);
}

// Begins the callers' first calls and goes on until there is nothing more to begin and nothing under way.
static void run(int callers) {
    for (int i = 0; i < callers; i++) begin_next(&connections[i % connection_count]);
    for (int i = 0; i < connection_count; i++) flush(&connections[i]);
    while (under_way > 0) {
        struct epoll_event events[CONNECTIONS_MAX];
        int count = epoll_wait(poller, events, CONNECTIONS_MAX, 10000);
        if (count == 0) die("etcd has not answered for 10 s");
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            ssize_t got = recv(c->socket, c->in.at + c->in.count, BUFFER_BYTES - c->in.count, 0);
            if (got <= 0) die("etcd closed a connection");
            c->in.count += (size_t)got;
            take_frames(c);
            flush(c);
        }
    }
}

// ---- verbs ----

static int leads(int port) {
    const unsigned char *header, *unused;
    size_t header_bytes = 0, unused_bytes;
    verb = 's';
    calls_all = 0;
    method = "/etcdserverpb.Maintenance/Status";
    connect_all(port, 1);
    run(1);
    close_all();
    if (last_answer_bytes < 5) die("etcd's status is empty");
    find_field(last_answer + 5, last_answer_bytes - 5, 1, &header, &header_bytes); // StatusResponse: header = 1, leader = 4
    uint64_t leader = find_field(last_answer + 5, last_answer_bytes - 5, 4, &unused, &unused_bytes);
    uint64_t self = find_field(header, header_bytes, 2, &unused, &unused_bytes); // ResponseHeader: member_id = 2
    return leader != 0 && leader == self;
}

static int find_server(char *ports, int leader) {
    for (char *port = strtok(ports, ","); port; port = strtok(NULL, ",")) {
        if (leads(atoi(port)) == leader) return atoi(port);
    }
    die("no server has the role asked for");
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
        (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double p99_ms(void) {
    long left = calls_measured - calls_measured / 100;
    int bucket = 0;
    while (bucket < BUCKETS - 1 && (left -= buckets[bucket]) > 0) bucket++;
    return (bucket + 1) * BUCKET_US / 1e3;
}

int main(int count, char **arguments) {
    if (count != 8) die("arguments: load|put|range PORT,... leader|follower CALLERS SECONDS KEYS VALUE-BYTES");
    int callers = atoi(arguments[4]);
    double seconds = atof(arguments[5]);
    keys = atoi(arguments[6]);
    value_bytes = atoi(arguments[7]);
    if (callers < 1 || callers > STREAMS_MAX || keys < 1 || value_bytes > VALUE_BYTES_MAX) die("a number is out of range");

    int port = find_server(arguments[2], !strcmp(arguments[3], "leader"));
    int wanted = callers / CALLERS_PER_CONNECTION;
    verb = arguments[1][0];
    method = verb == 'l' ? "/etcdserverpb.KV/Txn" : verb == 'p' ? "/etcdserverpb.KV/Put" : "/etcdserverpb.KV/Range";
    if (verb == 'l') callers = wanted = CONNECTIONS_MAX; // one transaction a connection fits into its first window
    connect_all(port, wanted < 1 ? 1 : wanted > CONNECTIONS_MAX ? CONNECTIONS_MAX : wanted);

    calls_all = 0;
    double cpu_before = cpu_seconds();
    measure_from = now() + seconds / 2;
    measure_until = measure_from + seconds;
    run(callers);
    if (verb == 'l') return 0;
    printf("%.0f,%.3f,%ld,%.2f\n", (double)calls_measured / seconds, p99_ms(), calls_all,
        (cpu_seconds() - cpu_before) * 1e6 / (double)calls_all);
    return 0;
}
