using System.Runtime.CompilerServices;
using KvNode.Storage;

namespace KvNode.Server;

/// <summary>What a flag may be set to; both ends are allowed.</summary>
/// <param name="Default">Its value without the flag.</param>
internal readonly record struct Bounds(int Min, int Default, int Max)
{
    public bool Hold(long value) => value >= Min && value <= Max;
}

/// <summary>
/// Every bound of the server in one place. A bound with a flag is a <see cref="Bounds"/>, one that nobody can turn is a
/// constant. Sizes are bytes, times are seconds unless the name says otherwise.
/// </summary>
/// <remarks>
/// The relations between the bounds are checked by <see cref="Check"/>, those between the values of one start by
/// <see cref="Hosting.NodeOptions.Problem"/>.
/// </remarks>
internal static class Limits
{
    private const int KiB = 1024;
    private const int MiB = 1024 * KiB;

    /// <summary>The longest key. Longer keys are refused, whatever <c>--max-value</c> says.</summary>
    public const int KeyBytesMax = StoreLimits.KeyBytesMax;

    /// <summary>What a command needs around its largest value: name, longest key, options, lengths.</summary>
    public const int CommandBytesAroundValue = 1 * MiB;

    /// <summary>Connections over the clients' limit that may be open at one time: other nodes', and clients' that are told so
    /// and closed.</summary>
    public const int ConnectionsBesideClients = 32;

    /// <summary>With room for fewer connections than this, those that have not said who they are have to go, oldest first.</summary>
    public const int AcceptRoomMin = 8;

    /// <summary>With no room at all, another of them has to go each time so many milliseconds have passed.</summary>
    public const int AcceptPauseMilliseconds = 10;

    /// <summary>File descriptors kept for everything that is not a client. A node in use has 150 open, most of them the
    /// runtime's libraries; the rest is for log segments, a snapshot, and the connections of <see cref="ConnectionsBesideClients"/>.</summary>
    public const int FilesBesideClients = 224;

    /// <summary>With fewer the program does not start: the runtime could not even load all of it.</summary>
    public const int FilesMin = FilesBesideClients + 8;

    /// <summary>Log lines waiting for a reader of standard error; beyond, lines are dropped and counted.</summary>
    public const int LogLinesQueuedMax = 4_096;

    /// <summary>Longest message of a log line, in characters; the rest is cut.</summary>
    public const int LogMessageCharsMax = 8 * KiB;

    /// <summary>How long a connection over the clients' limit may take to say that it is another node's, in milliseconds;
    /// less when room runs short.</summary>
    public const int PeerHelloMilliseconds = 1_000;

    /// <summary>How long the handshake of TLS may take, in milliseconds.</summary>
    public const int TlsHandshakeMilliseconds = 10_000;

    /// <summary>Inside TLS: encrypted, and read, at a time.</summary>
    public const int TlsPieceBytes = 16 * KiB;

    /// <summary>Inside TLS: replies waiting to be encrypted before the session counts its client as behind.</summary>
    public const int TlsOutputBytesMax = 64 * KiB;

    /// <summary>How long a stopping node waits for its last log lines to be taken.</summary>
    public const int LogDrainMillisecondsMax = 1_000;

    /// <summary>A log entry is closed to further writes at this size; a single larger command is an entry by itself.</summary>
    public const int EntryBytesSoft = 256 * KiB;

    /// <summary>Reads that wait together and are more than this run on a thread that nothing else waits for.</summary>
    public const int LongReadsBytes = 64 * KiB;

    /// <summary>Waiting for the log, over all clients; beyond, clients wait before they may add more.</summary>
    public const int UncommittedBytesMax = 64 * MiB;

    /// <summary>Operations of one client handed over and not answered; beyond, its next command is not read yet.</summary>
    public const int OutstandingOperationsMax = 16_384;

    /// <summary>Replies of one batch gathered before they are put aside, in pieces of about this size.</summary>
    public const int HeldReplyBytes = 1 * MiB;

    /// <summary>Longest reply that is not streamed: the longest value and room; only MGET can ask for more.</summary>
    public const int ReplyBytesMax = 1024 * MiB;

    /// <summary>Replies are handed to the connection in pieces of about this size.</summary>
    public const int ReplyChunkBytes = 64 * KiB;

    /// <summary>Buffers up to this size go back to the shared pool, which keeps what it is given; larger ones are left to the
    /// garbage collector.</summary>
    public const int PooledBufferBytesMax = 4 * MiB;

    /// <summary>
    /// Replies streamed at one time; further ones wait their turn. Each pins a view, and with it one of the store's
    /// readers: without this limit enough slow clients would leave none for the apply thread.
    /// </summary>
    public const int StreamsMax = 1_024;

    /// <summary>How long a client may stop taking a streamed reply, which pins a view of the store, in milliseconds.</summary>
    public const int StreamStallMillisecondsMax = 30_000;

    /// <summary>How long a stopping node waits for its clients' last replies, in milliseconds.</summary>
    public const int StopGraceMilliseconds = 3_000;

    /// <summary><c>--max-value</c>: the longest value, and the longest argument of any command.</summary>
    public static Bounds ValueBytes { get; } = new(1 * KiB, 64 * MiB, StoreLimits.ValueBytesMax);

    /// <summary><c>--query-buffer</c>: the longest command, and so the most a client's unread input may hold.</summary>
    public static Bounds QueryBufferBytes { get; } = new(2 * MiB, 256 * MiB, 1024 * MiB);

    /// <summary><c>--client-output-buffer</c>: replies a client has not taken yet, before it is disconnected.</summary>
    public static Bounds OutputBufferBytes { get; } = new(2 * MiB, 256 * MiB, 1024 * MiB);

    /// <summary><c>--max-clients</c>: connections open at one time. Lowered at start to what the system allows.</summary>
    public static Bounds Clients { get; } = new(1, 10_000, 1_000_000);

    /// <summary><c>--timeout</c>: an idle client is disconnected after this long; 0 means never.</summary>
    public static Bounds IdleSeconds { get; } = new(0, 0, 365 * 24 * 3600);

    /// <summary><c>--tcp-keepalive</c>: silence before the kernel asks whether a client is still there; 0 means never.
    /// The largest is what Linux takes.</summary>
    public static Bounds KeepAliveSeconds { get; } = new(0, 300, 32_767);

    /// <summary><c>--snapshots-keep</c>: snapshots left in the directory after a new one is complete.</summary>
    public static Bounds SnapshotsKeep { get; } = new(1, 3, 1_000);

    /// <summary><c>--write-buffer</c>: writes gathered in memory before they are flushed into LMDB in one commit.</summary>
    public static Bounds WriteBufferBytes { get; } = new(1 * MiB, 128 * MiB, 1024 * MiB);

    /// <summary><c>--wal-segment-size</c>: one file of the log, zero-filled before use.</summary>
    public static Bounds WalSegmentBytes { get; } = new(1 * MiB, 64 * MiB, 1024 * MiB);

    public static Bounds LogKeepBytes { get; } = new(4 * MiB, 1024 * MiB, int.MaxValue);

    public static Bounds LeaderWaitMilliseconds { get; } = new(0, 5_000, 600_000);

    public static Bounds ElectionMilliseconds { get; } = new(50, 1_000, 60_000);

    /// <summary>Checks the relations; every start does, so a careless edit ends the first test and not a node in service.</summary>
    public static void Check()
    {
        Bounds[] all =
        [
            ValueBytes, QueryBufferBytes, OutputBufferBytes, Clients, IdleSeconds, KeepAliveSeconds, SnapshotsKeep,
            WriteBufferBytes, WalSegmentBytes, LogKeepBytes, LeaderWaitMilliseconds, ElectionMilliseconds,
        ];
        foreach (var bounds in all)
        {
            Require(bounds.Hold(bounds.Default));
        }

        Require(KeyBytesMax < CommandBytesAroundValue);
        Require(KeyBytesMax == Storage.StoreLimits.KeyBytesMax);
        Require(ValueBytes.Max == Storage.StoreLimits.ValueBytesMax);
        Require(EntryBytesSoft * 16 < UncommittedBytesMax);
        Require(HeldReplyBytes < PooledBufferBytesMax);
        Require(AcceptRoomMin < ConnectionsBesideClients);
        Require(CommandBytesAroundValue + ValueBytes.Min <= QueryBufferBytes.Min);
        Require(CommandBytesAroundValue + ValueBytes.Min <= OutputBufferBytes.Min);
        Require(CommandBytesAroundValue + ValueBytes.Default <= QueryBufferBytes.Default);
        Require(CommandBytesAroundValue + ValueBytes.Default <= OutputBufferBytes.Default);
        Require(CommandBytesAroundValue + ValueBytes.Max <= QueryBufferBytes.Max);
        Require(CommandBytesAroundValue + ValueBytes.Max <= OutputBufferBytes.Max);
    }

    private static void Require(bool holds, [CallerArgumentExpression(nameof(holds))] string relation = "")
    {
        if (!holds)
        {
            throw new InvalidOperationException($"Limits: not true: {relation}");
        }
    }
}
