namespace KvNode.Raft.Core;

/// <summary>What must reach the disk, in one piece and in order.</summary>
/// <remarks>Reported with <see cref="RaftCore.OnPersisted"/> once durable. Records go into one ordered log.</remarks>
internal readonly record struct PersistRequest
{
    /// <summary>From 1, without gaps. 0: nothing to persist in this turn.</summary>
    public ulong Sequence { get; init; }

    /// <summary>Null: unchanged.</summary>
    public HardState? HardState { get; init; }

    /// <summary>Not 0: entries from this index on, written before, are void.</summary>
    public ulong TruncateFrom { get; init; }

    /// <summary>Set: the state machine takes over this snapshot; all entries up to it, and all after it, are void.</summary>
    public EntryId? Snapshot { get; init; }

    /// <summary>New entries, contiguous. Valid until the next call into the core; the payloads longer.</summary>
    public ReadOnlyMemory<LogEntry> Entries { get; init; }

    /// <summary>The commit index now, to be written along when anything else is.</summary>
    public ulong Commit { get; init; }
}

/// <param name="Index">Serve the read once this index is applied.</param>
internal readonly record struct ReadState(ulong Context, ulong Index, bool Ok);

/// <summary>Entries that a peer needs and that are no longer in memory. Answer with <see cref="RaftCore.OnFetched"/>.</summary>
internal readonly record struct FetchRequest(ulong Peer, ulong FirstIndex, int BytesMax);

/// <summary>
/// What the core wants done after a turn. The lists are the core's own and are emptied by the next
/// <see cref="RaftCore.TakeReady"/>.
/// </summary>
internal sealed class Ready
{
    public PersistRequest Persist { get; set; }

    /// <summary>May leave at once.</summary>
    public List<Message> Messages { get; } = [];

    /// <summary>May leave when everything persisted up to <see cref="PersistRequest.Sequence"/> (or, if this turn persists
    /// nothing, the last one before) is durable. Only vote requests and vote and pre-vote responses; append responses
    /// come out of <see cref="RaftCore.OnPersisted"/> as ordinary messages.</summary>
    public List<Message> MessagesAfterPersist { get; } = [];

    /// <summary>What this list must wait for.</summary>
    public ulong AfterPersistSequence { get; set; }

    /// <summary>Committed and locally durable: entries to apply, in order, in memory. Each is handed out once.</summary>
    public ReadOnlyMemory<LogEntry> Committed { get; set; }

    public List<ReadState> Reads { get; } = [];

    public List<FetchRequest> Fetches { get; } = [];

    /// <summary>Peers that need a snapshot. The driver starts or resumes a transfer and reports with
    /// <see cref="RaftCore.ReportSnapshot"/>; the core learns of its end by the peer's append response.</summary>
    public List<ulong> SnapshotsWanted { get; } = [];

    /// <summary>Role, term or leader changed.</summary>
    public bool SoftStateChanged { get; set; }

    public bool IsEmpty => Persist.Sequence == 0 && Messages.Count == 0 && MessagesAfterPersist.Count == 0
        && Committed.IsEmpty && Reads.Count == 0 && Fetches.Count == 0 && SnapshotsWanted.Count == 0 && !SoftStateChanged;
}
