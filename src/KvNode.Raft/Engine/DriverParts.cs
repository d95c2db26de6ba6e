using KvNode.Raft.Core;
using KvNode.Raft.Transport;
using KvNode.Raft.Wal;

namespace KvNode.Raft.Engine;

/// <summary>What a driver works with. The same in a server and in a simulation, except for what is behind the interfaces.</summary>
internal sealed record DriverParts
{
    public required NodeStart Start { get; init; }

    public required RaftCore Core { get; init; }

    public required WriteAheadLog Log { get; init; }

    public required IReplicatedStateMachine Machine { get; init; }

    public required Mailbox Mailbox { get; init; }

    public required OutstandingBatches Outstanding { get; init; }

    public required PersistStage Persist { get; init; }

    public required ApplyStage Apply { get; init; }

    public required IPeerTransport Links { get; init; }

    public required IEntryFetcher Fetcher { get; init; }

    public required ISnapshotTransfers Snapshots { get; init; }

    /// <summary>Term and node id of the leader (0: unknown). Raft thread; must not block.</summary>
    public required Action<ulong, ulong> LeaderChanged { get; init; }
}

/// <summary>Reads entries that left memory back from the log on disk, and posts them as an event.</summary>
internal interface IEntryFetcher
{
    void Fetch(in FetchRequest request);
}

/// <summary>Snapshots on their way out and in. Raft thread; nothing blocks.</summary>
internal interface ISnapshotTransfers
{
    /// <summary>Starts to bring a snapshot to a peer, or lets a transfer under way go on.</summary>
    void Send(ulong peer, ulong term);

    /// <summary>What those who are being sent one will need next, at the earliest: entries after this index;
    /// <see cref="ulong.MaxValue"/> while none is under way.</summary>
    ulong KeepAfter { get; }

    /// <summary>The installation of the snapshot that the core has just accepted: replaces the state machine's state.</summary>
    Action TakeInstall();
}
