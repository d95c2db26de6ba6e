namespace KvNode.Raft.Transport;

/// <summary>Who this node is towards its peers.</summary>
/// <param name="ClusterId">0 while the node belongs to none.</param>
/// <param name="NodeId">Never 0.</param>
/// <param name="Incarnation">Larger at each start of the same node: a newer one's connections replace an older one's.</param>
/// <param name="Address">Where others reach this node, as HOST:PORT.</param>
public sealed record PeerIdentity(ulong ClusterId, ulong NodeId, ulong Incarnation, string Address);

/// <summary>How a peer proves that it belongs. With neither part only peers on this machine's loopback are dealt with.</summary>
public sealed record TransportSecurity
{
    public static TransportSecurity None { get; } = new();

    /// <summary><c>--cluster-secret</c>; empty for none. At least <see cref="SecretBytesMin"/>: it can be guessed at off line
    /// by whoever has seen one handshake.</summary>
    public ReadOnlyMemory<byte> Secret { get; init; }

    public TlsMaterial? Tls { get; init; }

    public const int SecretBytesMin = 16;

    /// <summary>True when peers have no way to prove anything.</summary>
    public bool LoopbackOnly => Secret.IsEmpty && Tls is null;
}

/// <summary>How a node talks to its peers. Times are checked against <see cref="Time"/>.</summary>
internal sealed record TransportOptions
{
    public required PeerIdentity Identity { get; init; }

    public TransportSecurity Security { get; init; } = TransportSecurity.None;

    /// <summary>Where received payloads go.</summary>
    public IFrameMemory Memory { get; init; } = new PooledFrameMemory();

    /// <summary>The largest payload of a frame: the largest entry and what stands around it.</summary>
    public int PayloadBytesMax { get; init; } = TransportLimits.PayloadBytesMax;

    /// <summary>
    /// What may wait for one peer's socket. More than the core has in flight to one peer, so that it is reached only by what
    /// flow control does not cover. A single larger message still goes when nothing else waits.
    /// </summary>
    public long QueuedBytesMax { get; init; } = 24 << 20;

    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>For the caller's first bytes, which it sends at once and in one piece.</summary>
    public TimeSpan HelloTimeout { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>For the calling side of a handshake as a whole, and for what follows the hello at the called one.</summary>
    public TimeSpan HandshakeTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Wait before the second attempt to connect; doubled after each, up to <see cref="BackOffMax"/>.</summary>
    public TimeSpan BackOffMin { get; init; } = TimeSpan.FromMilliseconds(50);

    public TimeSpan BackOffMax { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>A peer that could not be called for so long, and does not call either, is said to be out of reach.</summary>
    public TimeSpan UnreachableAfter { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>A connection on which nothing went out for so long carries a ping.</summary>
    public TimeSpan PingInterval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>A connection from which nothing came for so many ping intervals is closed; of one that carries a snapshot, where
    /// nothing moved.</summary>
    public int SilentIntervalsMax { get; init; } = 5;

    /// <summary>Bytes a second of snapshots to one peer; 0 for as fast as it goes.</summary>
    public long SnapshotBytesPerSecond { get; init; }

    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>Told what people should know; any thread, must not block.</summary>
    public Action<PeerNotice> Notice { get; init; } = static _ => { };
}

/// <summary>Bounds that nobody can turn.</summary>
internal static class TransportLimits
{
    /// <summary>One entry of a gibibyte and what stands around it still fits; arrays end not much higher.</summary>
    public const int PayloadBytesMax = (1 << 30) + (64 << 20);

    /// <summary>A request, a reply, the meta data of a snapshot.</summary>
    public const int ControlBytesMax = 1 << 20;

    /// <summary>One piece of a snapshot.</summary>
    public const int ChunkBytes = 1 << 20;

    /// <summary>The longest address that a peer may give.</summary>
    public const int AddressBytesMax = 255;

    /// <summary>Accepted connections that have not proven anything yet; a further one takes the place of the oldest.</summary>
    public const int HandshakesMax = 64;

    /// <summary>Nodes that are not members and are connected all the same: joining or removed ones. More are refused.</summary>
    public const int StrangersMax = 64;

    /// <summary>Connections in a row without progress before a snapshot transfer is given up.</summary>
    public const int SnapshotAttemptsMax = 5;
}

/// <summary>What a notice is about.</summary>
public enum PeerNoticeKind
{
    /// <summary>Nobody can prove anything here, so only this machine's own nodes are dealt with.</summary>
    LoopbackOnly,

    /// <summary>A connection that was accepted is closed: it proved nothing, or sent what no peer sends.</summary>
    Refused,

    /// <summary>A peer that this node called refused the connection, or is not who it should be.</summary>
    CallRefused,

    /// <summary>A peer cannot be called and has not called: nobody answers there, or the name is not known.</summary>
    Unreachable,

    /// <summary>A way to a peer was made.</summary>
    Connected,

    /// <summary>No way to a peer is left.</summary>
    Disconnected,
}

/// <param name="Peer">0 when not known.</param>
/// <param name="Address">The other end's.</param>
/// <param name="Suppressed">Notices of the same kind that were left out since the last one.</param>
public readonly record struct PeerNotice(
    PeerNoticeKind Kind, ulong Peer, string Address, string Detail, long Suppressed)
{
    /// <summary>The peer is no member, as far as is known here.</summary>
    public bool IsStranger { get; init; }
}
