namespace KvNode.Raft.Engine;

/// <summary>What a node does with writes and linearizable reads while another node leads.</summary>
public enum FollowerMode
{
    /// <summary>Brings them to the leader.</summary>
    Forward,

    /// <summary>Refuses them at once and says who leads, if it is known.</summary>
    Refuse,

    /// <summary>Refuses them and says who leads; while nobody does, they wait for one.</summary>
    Redirect,
}

/// <summary>How the driver behaves. Times are durations of real time, sizes bytes.</summary>
internal sealed record DriverOptions
{
    public TimeSpan Tick { get; init; } = TimeSpan.FromMilliseconds(20);

    public TimeSpan ElectionTimeout { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How long a batch waits for a leader.</summary>
    public TimeSpan LeaderWait { get; init; } = TimeSpan.FromSeconds(5);

    public FollowerMode Follower { get; init; } = FollowerMode.Forward;

    /// <summary>Entries of this leader's that may be uncommitted before more are gathered: what arrives meanwhile shares the
    /// next one. More would mean smaller entries, fewer an idle disk.</summary>
    public int EntriesInFlightMax { get; init; } = 2;

    /// <summary>An entry takes batches until it has this much; one larger batch is an entry by itself.</summary>
    public int EntryBytesSoft { get; init; } = 1 << 20;

    /// <summary>Batches on their way to a leader that are not applied yet.</summary>
    public int ForwardsInFlightMax { get; init; } = 8;

    public long ForwardBytesMax { get; init; } = 16 << 20;

    /// <summary>Rounds of reads under way.</summary>
    public int ReadRoundsMax { get; init; } = 2;

    /// <summary>Newest entries kept in memory for followers that are a little behind.</summary>
    public long CacheBytesMax { get; init; } = 32 << 20;

    /// <summary>Log kept for followers that are far behind; beyond it they get a snapshot.</summary>
    public long LogBytesMax { get; init; } = 1 << 30;

    /// <summary>Applies within the turn when nothing else waits for it.</summary>
    public bool ApplyInline { get; init; } = true;

    /// <summary>No more than this is applied within a turn; more is the apply thread's, and the next turn need not wait.</summary>
    public int ApplyHereBytesMax { get; init; } = 64 << 10;

    /// <summary>A leader whose log has not taken a write for this long hands over.</summary>
    public TimeSpan DiskStall { get; init; } = TimeSpan.FromSeconds(1);
}
