namespace KvNode.Simulation;

/// <summary>Kinds of misfortune; each seed has some of them.</summary>
[Flags]
internal enum Faults
{
    None = 0,
    Loss = 1,
    Duplicates = 2,
    Delays = 4,
    Partitions = 8,
    LinkBreaks = 16,
    Crashes = 32,
    TornWrites = 64,
    SyncFailures = 128,
    FullDisks = 256,
    SlowDisks = 512,
    Clocks = 1024,
    Pauses = 2048,
    Membership = 4096,
    Transfers = 8192,
    Wipes = 16384,
    Compaction = 32768,
    All = 65535,
}

/// <summary>What a seed makes of a run: how large everything is, and what goes wrong how often. Times in nanoseconds.</summary>
internal sealed class Swarm
{
    public const long Millisecond = 1_000_000;

    public Swarm(ulong seed, Faults allowed)
    {
        var dice = new Dice(seed ^ 0x5357_41524D);
        var drawn = Faults.None;
        for (var fault = 1; fault <= (int)Faults.Compaction; fault <<= 1)
        {
            drawn |= dice.Next(2) == 0 ? (Faults)fault : Faults.None;
        }

        Faults = drawn & allowed;
        Nodes = dice.Next(8) switch { 0 => 1, 1 => 2, 2 => 4, < 6 => 3, _ => 5 };
        Clients = dice.Between(1, 6);
        ElectionTicks = dice.Between(8, 16);
        HeartbeatTicks = dice.Between(1, 3);
        Loss = dice.Fraction() * dice.Fraction() * 0.3;
        Duplicates = dice.Fraction() * dice.Fraction() * 0.3;
        DelayMin = dice.Between(20_000, 500_000L);
        DelayMax = DelayMin + dice.Between(10_000L, Has(Faults.Delays) ? 20 * Millisecond : Millisecond);
        LongDelays = Has(Faults.Delays) ? dice.Fraction() * 0.02 : 0;
        DiskLatency = dice.Between(20_000L, 5 * Millisecond);
        ApplyLatency = dice.Between(5_000L, (dice.Next(5) == 0 ? 200 : 3) * Millisecond);
        TurnLatency = dice.Between(1_000L, 300_000);
        TurnChance = dice.Fraction() * 0.5;
        FaultEvery = dice.Between(20, 300) * Millisecond;
        CheckpointEvery = dice.Between(20, 1000) * Millisecond;
        Think = dice.Between(0, 30) * Millisecond;
        Padding = dice.Next(4) == 0 ? 2000 : dice.Between(0, 300);
        Lease = dice.Next(2) == 0;
        ApplyInline = dice.Next(2) == 0;
        MessageBytesMax = dice.Next(2) == 0 ? 1 << 20 : dice.Between(100, 3000);
        InflightMessagesMax = dice.Between(1, 12);
        UncommittedBytesMax = dice.Next(3) == 0 ? dice.Between(500, 5000) : 1 << 20;
        ApplyBytesMax = dice.Next(3) == 0 ? dice.Between(100, 2000) : 1 << 20;
        EntriesInFlightMax = dice.Between(1, 4);
        EntryBytesSoft = dice.Next(2) == 0 ? dice.Between(100, 2000) : 1 << 20;
        ForwardsInFlightMax = dice.Between(1, 8);
        FrameBytesMax = dice.Next(2) == 0 ? dice.Between(1, 2000) : 1 << 20;
        SegmentBytes = 512 * (Has(Faults.Compaction) ? dice.Between(6, 24) : 400);
        LogBytesMax = Has(Faults.Compaction) ? SegmentBytes * dice.Between(1, 6) : 1 << 30;
        CacheBytesMax = Has(Faults.Compaction) || dice.Next(2) == 0 ? dice.Between(200, 8000) : 1 << 20;
        LeaderWaitTicks = dice.Between(20, 100);
    }

    /// <summary>One tick of every node's clock.</summary>
    public const long Tick = 10 * Millisecond;

    public Faults Faults { get; }

    public int Nodes { get; }
    public int Clients { get; }
    public int ElectionTicks { get; }
    public int HeartbeatTicks { get; }
    public double Loss { get; }
    public double Duplicates { get; }
    public long DelayMin { get; }
    public long DelayMax { get; }
    public double LongDelays { get; }
    public long DiskLatency { get; }
    public long ApplyLatency { get; }
    public long TurnLatency { get; }
    public double TurnChance { get; }
    public long FaultEvery { get; }
    public long CheckpointEvery { get; }
    public long Think { get; }
    public int Padding { get; }
    public bool Lease { get; }
    public bool ApplyInline { get; }
    public int MessageBytesMax { get; }
    public int InflightMessagesMax { get; }
    public int UncommittedBytesMax { get; }
    public int ApplyBytesMax { get; }
    public int EntriesInFlightMax { get; }
    public int EntryBytesSoft { get; }
    public int ForwardsInFlightMax { get; }
    public int FrameBytesMax { get; }
    public long SegmentBytes { get; }
    public long LogBytesMax { get; }
    public long CacheBytesMax { get; }
    public int LeaderWaitTicks { get; }

    /// <summary>Base election timeout.</summary>
    public long ElectionTimeout => ElectionTicks * Tick;

    /// <summary>
    /// So that even the fastest clock's election timeout, counted in whole ticks, outlasts it on the slowest one: the first
    /// tick may count right after the leader was heard, and the second come at any time after it.
    /// </summary>
    public long LeaseNanoseconds => Lease ? (long)((ElectionTicks - 2) * Tick * (Slowest / Fastest) * 0.99) : 0;

    public double Slowest => Has(Faults.Clocks) ? 0.8 : 1;

    public double Fastest => Has(Faults.Clocks) ? 1.2 : 1;

    public bool Has(Faults fault) => (Faults & fault) != Faults.None;
}
