using System.Buffers.Text;
using System.Text.Unicode;
using KvNode.Raft;

namespace KvNode.Server.Resp;

/// <summary>
/// Every error reply, spelled once. Texts carry no <c>-</c> and no line break: hand them to
/// <see cref="RespWriter.Error"/>. Where Redis 7.0.15 has the error, the words are Redis's; clients match on them.
/// </summary>
internal static class RespError
{
    /// <summary>Redis cuts what it repeats of a client's own words here.</summary>
    private const int EchoBytesMax = 128;

    /// <summary>Room for the longest composed text: fixed words, one echoed name and the echoed arguments.</summary>
    private const int TextBytesMax = 512;

    // Arguments and options.

    public static ReadOnlySpan<byte> Syntax => "ERR syntax error"u8;

    public static ReadOnlySpan<byte> NotInteger => "ERR value is not an integer or out of range"u8;

    public static ReadOnlySpan<byte> DbIndexOutOfRange => "ERR DB index is out of range"u8;

    public static ReadOnlySpan<byte> WrongType =>
        "WRONGTYPE Operation against a key holding the wrong kind of value"u8;

    public static ReadOnlySpan<byte> KeyTooLong => "ERR key is longer than the allowed maximum (65536 bytes)"u8;

    // Protocol errors: answered once, then the connection closes.

    public static ReadOnlySpan<byte> InvalidMultibulkLength => "ERR Protocol error: invalid multibulk length"u8;

    public static ReadOnlySpan<byte> InvalidBulkLength => "ERR Protocol error: invalid bulk length"u8;

    public static ReadOnlySpan<byte> MultibulkCountTooBig => "ERR Protocol error: too big mbulk count string"u8;

    public static ReadOnlySpan<byte> BulkCountTooBig => "ERR Protocol error: too big bulk count string"u8;

    public static ReadOnlySpan<byte> InlineTooBig => "ERR Protocol error: too big inline request"u8;

    public static ReadOnlySpan<byte> UnbalancedQuotes => "ERR Protocol error: unbalanced quotes in request"u8;

    // HELLO, AUTH, CLIENT.

    public static ReadOnlySpan<byte> ProtocolUnsupported => "NOPROTO unsupported protocol version"u8;

    public static ReadOnlySpan<byte> ProtocolNotInteger =>
        "ERR Protocol version is not an integer or out of range"u8;

    public static ReadOnlySpan<byte> AuthRequired => "NOAUTH Authentication required."u8;

    public static ReadOnlySpan<byte> HelloNeedsAuth =>
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"u8;

    public static ReadOnlySpan<byte> WrongPassword => "WRONGPASS invalid username-password pair or user is disabled."u8;

    public static ReadOnlySpan<byte> AuthWithoutPassword =>
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"u8;

    public static ReadOnlySpan<byte> ClientName =>
        "ERR Client names cannot contain spaces, newlines or special characters."u8;

    public static ReadOnlySpan<byte> ClientId => "ERR Invalid client ID"u8;

    public static ReadOnlySpan<byte> NoSuchClient => "ERR No such client"u8;

    // COMMAND GETKEYS.

    public static ReadOnlySpan<byte> GetKeysInvalidCommand => "ERR Invalid command specified"u8;

    public static ReadOnlySpan<byte> GetKeysNoKeys => "ERR The command has no key arguments"u8;

    public static ReadOnlySpan<byte> GetKeysArity => "ERR Invalid number of arguments specified for command"u8;

    // The server's state. None of these commands was executed.

    public static ReadOnlySpan<byte> MaxClients => "ERR max number of clients reached"u8;

    public static ReadOnlySpan<byte> Loading => "LOADING Redis is loading the dataset in memory"u8;

    public static ReadOnlySpan<byte> DiskFull =>
        "MISCONF Errors writing to the AOF file: No space left on device"u8;

    public static ReadOnlySpan<byte> ShuttingDown => "ERR server is shutting down"u8;

    public static ReadOnlySpan<byte> RaftNotReady => "ERR raft not ready"u8;

    public static ReadOnlySpan<byte> RaftShutDown => "ERR raft is already shutdown"u8;

    /// <summary>There is no leader to send the client to.</summary>
    public static ReadOnlySpan<byte> LeaderUnknown => "ERR leader not known"u8;

    /// <summary>No leader for as long as a command may wait for one. Not executed.</summary>
    public static ReadOnlySpan<byte> ClusterDown => "CLUSTERDOWN The cluster is down: no leader was found in time"u8;

    /// <summary>Not executed, and never will be; a later one of the same node took its place in the log.</summary>
    public static ReadOnlySpan<byte> TryAgain => "TRYAGAIN The leader changed before the command was executed"u8;

    public static ReadOnlySpan<byte> ProposalTimedOut => "ERR timed out enqueuing operation"u8;

    /// <summary>
    /// The only answer to a write whose fate is open: it may have happened, or may happen yet. Its own code, so that a
    /// client can tell it from the errors that promise "not executed". (The original: <c>leadership lost while
    /// committing log</c>.)
    /// </summary>
    public static ReadOnlySpan<byte> OutcomeUnknown =>
        "UNKNOWN leadership lost while committing log, the write may or may not take effect"u8;

    // RAFT* commands.

    public static ReadOnlySpan<byte> NothingToSnapshot => "ERR Nothing new to snapshot"u8;

    public static ReadOnlySpan<byte> ShrinkInProgress => "ERR shrink in progress"u8;

    public static ReadOnlySpan<byte> LogNotShrinkable => "ERR log is not shrinkable"u8;

    public static ReadOnlySpan<byte> PeerKnown => "ERR peer already known"u8;

    public static ReadOnlySpan<byte> PeerUnknown => "ERR peer is unknown"u8;

    /// <param name="name">In full, with subcommand (<c>CONFIG|GET</c>); any case, answered in lower case as Redis does.</param>
    public static void WrongArity(RespWriter reply, ReadOnlySpan<byte> name)
    {
        var text = new TextBuilder(stackalloc byte[TextBytesMax]);
        text.Add("ERR wrong number of arguments for '"u8);
        text.AddLower(name);
        text.Add("' command"u8);
        reply.Error(text.Text);
    }

    /// <inheritdoc cref="WrongArity(RespWriter, ReadOnlySpan{byte})"/>
    public static void WrongArity(RespWriter reply, string name)
    {
        var text = new TextBuilder(stackalloc byte[TextBytesMax]);
        text.Add("ERR wrong number of arguments for '"u8);
        text.AddLower(name);
        text.Add("' command"u8);
        reply.Error(text.Text);
    }

    /// <summary>
    /// <c>ERR unknown command 'name', with args beginning with: 'a' 'b' </c>, the last blank included. The name is cut
    /// at 128 bytes; arguments are repeated until 128 bytes are full. A zero byte ends what is repeated of a word, as
    /// it ends a C string.
    /// </summary>
    public static void UnknownCommand(RespWriter reply, CommandArgs args)
    {
        var text = new TextBuilder(stackalloc byte[TextBytesMax]);
        text.Add("ERR unknown command '"u8);
        text.AddEcho(args[0], EchoBytesMax);
        text.Add("', with args beginning with: "u8);
        var start = text.Length;
        for (var i = 1; i < args.Count && text.Length - start < EchoBytesMax; i++)
        {
            var room = EchoBytesMax - (text.Length - start);
            text.Add("'"u8);
            text.AddEcho(args[i], room);
            text.Add("' "u8);
        }

        reply.Error(text.Text);
    }

    /// <param name="command">The command it was asked of; any case, answered in upper case.</param>
    /// <param name="subcommand">As the client typed it.</param>
    public static void UnknownSubcommand(RespWriter reply, ReadOnlySpan<byte> command, ReadOnlySpan<byte> subcommand)
    {
        var text = new TextBuilder(stackalloc byte[TextBytesMax]);
        text.Add("ERR unknown subcommand '"u8);
        text.AddEcho(subcommand, EchoBytesMax);
        text.Add("'. Try "u8);
        text.AddUpper(command);
        text.Add(" HELP."u8);
        reply.Error(text.Text);
    }

    public static void HelloOption(RespWriter reply, ReadOnlySpan<byte> option) =>
        Quoting(reply, "ERR Syntax error in HELLO option '"u8, option);

    public static void UnknownClientType(RespWriter reply, ReadOnlySpan<byte> type) =>
        Quoting(reply, "ERR Unknown client type '"u8, type);

    /// <summary>CLIENT SETINFO with a name other than LIB-NAME and LIB-VER.</summary>
    public static void UnknownClientInfo(RespWriter reply, ReadOnlySpan<byte> option) =>
        Quoting(reply, "ERR Unrecognized option '"u8, option);

    /// <summary>CLIENT SETINFO with a value that CLIENT LIST could not show.</summary>
    public static void ClientInfoValue(RespWriter reply, ReadOnlySpan<byte> option)
    {
        var text = new TextBuilder(stackalloc byte[TextBytesMax]);
        text.Add("ERR "u8);
        text.AddEcho(option, EchoBytesMax);
        text.Add(" cannot contain spaces, newlines or special characters."u8);
        reply.Error(text.Text);
    }

    /// <summary>This node is not the leader: <c>TRY host:port</c>, the original's answer. Certainly not executed.</summary>
    /// <param name="leaderAddress">Null when no leader is known: then <see cref="LeaderUnknown"/>.</param>
    public static void TryLeader(RespWriter reply, string? leaderAddress)
    {
        if (leaderAddress is null)
        {
            reply.Error(LeaderUnknown);
            return;
        }

        var text = new TextBuilder(stackalloc byte[TextBytesMax]);
        text.Add("TRY "u8);
        text.AddReason(leaderAddress);
        reply.Error(text.Text);
    }

    /// <summary>Why a command has no answer of its own.</summary>
    public static void NotExecuted(RespWriter reply, ProposalOutcome outcome)
    {
        switch (outcome.Status)
        {
            case ProposalStatus.NotLeader:
                TryLeader(reply, outcome.LeaderHint);
                break;
            case ProposalStatus.Dropped:
                WriteRefused(reply, outcome.Reason ?? "not accepted");
                break;
            case ProposalStatus.NoLeader:
                reply.Error(ClusterDown);
                break;
            case ProposalStatus.Superseded:
                reply.Error(TryAgain);
                break;
            default:
                reply.Error(OutcomeUnknown);
                break;
        }
    }

    /// <summary>The log does not take writes now: Redis's answer when its append-only file fails. Certainly not executed.</summary>
    public static void WriteRefused(RespWriter reply, string reason)
    {
        var text = new TextBuilder(stackalloc byte[TextBytesMax]);
        text.Add("MISCONF Errors writing to the AOF file: "u8);
        text.AddReason(reason);
        reply.Error(text.Text);
    }

    /// <summary><c>ERR reason</c>, for reasons that other rooms give in words; line breaks become blanks.</summary>
    public static void Because(RespWriter reply, string reason)
    {
        var text = new TextBuilder(stackalloc byte[TextBytesMax]);
        text.Add("ERR "u8);
        text.AddReason(reason);
        reply.Error(text.Text);
    }

    /// <summary>The one byte of <c>expected '$', got 'x'</c>; a line break would end the reply, so it shows as a blank.</summary>
    public static byte[] ExpectedDollar(byte got)
    {
        var text = "ERR Protocol error: expected '$', got 'x'"u8.ToArray();
        text[^2] = got is (byte)'\r' or (byte)'\n' ? (byte)' ' : got;
        return text;
    }

    public static byte[] Compose(ReadOnlySpan<byte> before, long number, ReadOnlySpan<byte> after)
    {
        Span<byte> digits = stackalloc byte[20];
        Utf8Formatter.TryFormat(number, digits, out var length);
        return [.. before, .. digits[..length], .. after];
    }

    private static void Quoting(RespWriter reply, ReadOnlySpan<byte> before, ReadOnlySpan<byte> word)
    {
        var text = new TextBuilder(stackalloc byte[TextBytesMax]);
        text.Add(before);
        text.AddEcho(word, EchoBytesMax);
        text.Add("'"u8);
        reply.Error(text.Text);
    }

    /// <summary>Composes one line in a fixed buffer; what does not fit is cut.</summary>
    private ref struct TextBuilder(Span<byte> buffer)
    {
        private readonly Span<byte> _buffer = buffer;

        public int Length { get; private set; }

        public readonly ReadOnlySpan<byte> Text => _buffer[..Length];

        public void Add(scoped ReadOnlySpan<byte> bytes)
        {
            var cut = bytes[..Math.Min(bytes.Length, _buffer.Length - Length)];
            cut.CopyTo(_buffer[Length..]);
            Length += cut.Length;
        }

        /// <summary>A client's own word: cut at <paramref name="max"/> and at a zero byte, line breaks made blanks.</summary>
        public void AddEcho(scoped ReadOnlySpan<byte> word, int max)
        {
            word = word[..Math.Min(word.Length, max)];
            var zero = word.IndexOf((byte)0);
            var start = Length;
            Add(zero < 0 ? word : word[..zero]);
            var added = _buffer[start..Length];
            added.Replace((byte)'\r', (byte)' ');
            added.Replace((byte)'\n', (byte)' ');
        }

        public void AddLower(scoped ReadOnlySpan<byte> name)
        {
            var start = Length;
            AddEcho(name, EchoBytesMax);
            foreach (ref var letter in _buffer[start..Length])
            {
                letter = letter is >= (byte)'A' and <= (byte)'Z' ? (byte)(letter | 0x20) : letter;
            }
        }

        public void AddUpper(scoped ReadOnlySpan<byte> name)
        {
            var start = Length;
            AddEcho(name, EchoBytesMax);
            foreach (ref var letter in _buffer[start..Length])
            {
                letter = letter is >= (byte)'a' and <= (byte)'z' ? (byte)(letter & ~0x20) : letter;
            }
        }

        public void AddLower(string name)
        {
            Span<byte> bytes = stackalloc byte[EchoBytesMax];
            Utf8.FromUtf16(name, bytes, out _, out var written);
            AddLower(bytes[..written]);
        }

        /// <summary>A sentence of ours, of any length.</summary>
        public void AddReason(string reason)
        {
            Span<byte> bytes = stackalloc byte[TextBytesMax];
            Utf8.FromUtf16(reason, bytes, out _, out var written);
            AddEcho(bytes[..written], TextBytesMax);
        }
    }
}
