namespace KvNode.Raft.Core;

/// <summary>How one core behaves. The same options, seed and inputs give the same outputs.</summary>
internal sealed record CoreOptions
{
    public required ulong NodeId { get; init; }

    /// <summary>Base election timeout in ticks; each wait is drawn from [base, 2 base - 1].</summary>
    public int ElectionTicks { get; init; } = 100;

    public int HeartbeatTicks { get; init; } = 10;

    /// <summary>Payload of one Append; a single larger entry still goes alone.</summary>
    public int MessageBytesMax { get; init; } = 1 << 20;

    public int InflightMessagesMax { get; init; } = 128;

    public long InflightBytesMax { get; init; } = 16 << 20;

    /// <summary>Proposals are refused while more than this is in the leader's log and not applied.</summary>
    public long UncommittedBytesMax { get; init; } = 64 << 20;

    /// <summary>Committed bytes handed out and not yet reported applied.</summary>
    public long ApplyBytesMax { get; init; } = 8 << 20;

    /// <summary>Lease reads: how long after the send of a confirmed round the leader may answer alone, in nanoseconds. 0: off.
    /// Smaller than the election timeout by a tick and by the drift that clocks may have. With leases on, a node that restarts
    /// votes for nobody for an election timeout, and no node campaigns or forgets its leader within one.</summary>
    public long LeaseNanoseconds { get; init; }

    /// <summary>A restart may lose acknowledged entries at the log's end, for they are acknowledged before they are on the
    /// disk: they are taken from the leader again. False: a node that lost some throws <see cref="LogCorruptException"/>.</summary>
    public bool MayLoseTail { get; init; }

    /// <summary>Another one at each start of a node: late answers to an earlier life are told apart by numbers from it.</summary>
    public ulong Seed { get; init; }
}

/// <summary>What a core starts from: what this node's disk says.</summary>
internal sealed record InitialState
{
    public HardState HardState { get; init; }

    /// <summary>Known to be committed, at least <see cref="Applied"/>'s index. Persisted lazily, so it may be old.</summary>
    public ulong Commit { get; init; }

    /// <summary>The last entry that the state machine holds.</summary>
    public EntryId Applied { get; init; }

    /// <summary>The configuration as of <see cref="Applied"/>. Empty: a node that waits to be told. A new cluster's first
    /// members start with theirs at a position above 0, as after a snapshot: whoever joins later must get it as one.</summary>
    public Membership Membership { get; init; } = Membership.Empty;

    /// <summary>The entry before the first one in the log: the snapshot's or the compaction's position.</summary>
    public EntryId BeforeFirst { get; init; }

    /// <summary>First entry of each run of equal terms that is in the log but not in <see cref="Tail"/>, in order.</summary>
    public IReadOnlyList<EntryId> OlderTerms { get; init; } = [];

    /// <summary>The newest entries, all that are not applied among them. All durable. Empty: the log ends at
    /// <see cref="Applied"/>.</summary>
    public IReadOnlyList<LogEntry> Tail { get; init; } = [];
}
