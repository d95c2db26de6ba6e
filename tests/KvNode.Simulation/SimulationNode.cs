using KvNode.Raft;
using KvNode.Raft.Core;
using KvNode.Raft.Engine;
using KvNode.Raft.Wal;

namespace KvNode.Simulation;

/// <summary>One identity: its disk and its store live as long as it does, the rest for one life.</summary>
internal sealed class SimulationNode : IEntryFetcher
{
    private readonly Simulation _simulation;
    private readonly NodeClock _clock;
    private readonly HashSet<int> _peers = [];
    private ulong _incarnation;

    public SimulationNode(Simulation simulation, int number)
    {
        _simulation = simulation;
        _clock = new NodeClock(this);
        Number = number;
        Disk = new SimulationDisk(simulation.Dice);
        Machine = new SimulationMachine(simulation.Ledger, number, Disk, NoteCommits);
        Rate = simulation.Swarm.Slowest
            + (simulation.Dice.Fraction() * (simulation.Swarm.Fastest - simulation.Swarm.Slowest));
    }

    /// <summary>From 0; the node's id is one more.</summary>
    public int Number { get; }

    public ulong Id => (ulong)Number + 1;

    public SimulationDisk Disk { get; }

    public SimulationMachine Machine { get; }

    /// <summary>Counted on with each start and each end.</summary>
    public int Life { get; private set; }

    public bool IsRunning { get; private set; }

    /// <summary>Its disk is gone: it never comes back.</summary>
    public bool IsLost { get; set; }

    /// <summary>It does nothing until then.</summary>
    public long PausedUntil { get; set; }

    public bool IsSlow { get; set; }

    /// <summary>How fast its clock goes.</summary>
    public double Rate { get; private set; }

    private long _clockBase;
    private long _clockFrom;

    public NodeSink? Sink { get; private set; }

    public Mailbox Mailbox { get; private set; } = new();

    public OutstandingBatches Outstanding { get; private set; } = new();

    public RaftCore? Core { get; private set; }

    public RaftDriver? Driver { get; private set; }

    public WriteAheadLog? Log { get; private set; }

    public PersistStage? Persist { get; private set; }

    public ApplyStage? Apply { get; private set; }

    public SimulationSnapshots? Snapshots { get; private set; }

    public NodeChecks Checks { get; } = new();

    // What is planned for this life already.
    public bool IsDiskBusy { get; set; }
    public bool IsApplyPlanned { get; set; }
    public bool IsTickPlanned { get; set; }
    public bool IsTurnPlanned { get; set; }

    /// <summary>Something was put into the mailbox since the last turn.</summary>
    public bool HasMail { get; set; }

    /// <summary>The batch that clients may still add to.</summary>
    public CommandBatch? OpenBatch { get; set; }

    public bool WantsPeer(int number) => _peers.Contains(number);

    public long LocalTime(long now) => _clockBase + (long)((now - _clockFrom) * Rate);

    /// <summary>From now on the clock goes as it should.</summary>
    public void RightClock(long now)
    {
        (_clockBase, _clockFrom, Rate) = (LocalTime(now), now, 1);
    }

    /// <summary>As a server starts: opens the log, replays what the store lacks, makes a core of the rest.</summary>
    public void Start(Membership? founders)
    {
        var swarm = _simulation.Swarm;
        Machine.Reopen();
        var log = EngineStart.OpenLog(
            Disk,
            new WalOptions { SegmentBytes = swarm.SegmentBytes, SegmentBytesMin = 1024, Background = false },
            Machine,
            Id);
        Log = log;
        Checks.OnRecovered(this, log);
        if (founders is not null && log.Last.Index == 0)
        {
            Found(log, founders);
        }

        Mailbox = new Mailbox();
        Outstanding = new OutstandingBatches();
        var state = EngineState.Decode(Machine.EngineState.Span);
        var start = new NodeStart(Id, ++_incarnation);
        Apply = new ApplyStage(Machine, Outstanding, state, Machine.Durable.Index, start, OnApplied);
        EngineStart.Replay(log, Machine.Durable, log.Commit, Apply, CancellationToken.None);
        Machine.Log = log;
        Core = new RaftCore(CoreOptions(), EngineStart.State(log, Apply.AppliedIndex, state.Membership));
        Persist = new PersistStage(
            log, new PersistOptions { FrameBytesMax = swarm.FrameBytesMax, Time = _clock }, OnPersisted);
        Sink = new NodeSink(Mailbox);
        Snapshots = new SimulationSnapshots(_simulation, this);
        Life++;
        IsRunning = true;
        Checks.OnStarted(this);
        Driver = new RaftDriver(DriverOptions(), Parts(log, start), LocalTime(_simulation.Now));
    }

    /// <summary>The end of a life; what was waiting is forgotten.</summary>
    public void Stop()
    {
        Checks.OnStopping(this);
        Snapshots?.Abandon();
        Log?.Dispose();
        IsRunning = false;
        IsDiskBusy = IsApplyPlanned = IsTickPlanned = IsTurnPlanned = HasMail = false;
        PausedUntil = 0;
        Sink = null;
        Core = null;
        Driver = null;
        OpenBatch = null;
        Life++;
        _peers.Clear();
    }

    /// <inheritdoc/>
    public void Fetch(in FetchRequest request) =>
        _simulation.Plan(_simulation.Swarm.DiskLatency, EventType.Fetch, Number, Life, 0, request);

    public void SetPeers(IReadOnlyDictionary<ulong, string> addressById)
    {
        _peers.Clear();
        foreach (var id in addressById.Keys)
        {
            var peer = (int)id - 1;
            if (peer != Number)
            {
                _ = _peers.Add(peer);
                _simulation.Network.Connect(Number, peer);
            }
        }
    }

    public void Post(Action action)
    {
        Mailbox.Post(action);
        HasMail = true;
    }

    public void NoteCommits()
    {
        if (Core is not null)
        {
            Checks.NoteCommits(this, _simulation.Ledger);
        }
    }

    /// <summary>Something is committed for the first time: a majority must hold it on disk.</summary>
    public void CheckQuorum(EntryId entry)
    {
        if (entry.Index > 1 && !_simulation.IsHeldByQuorum(entry, Core!.Membership)
            && !_simulation.IsHeldByQuorum(entry, Checks.MembershipBefore))
        {
            Expect.Fail("commit without quorum", $"node {Number} commits {entry}, which no majority has on disk");
        }
    }

    /// <summary>Whatever happens to this node, the entry is there.</summary>
    public bool HoldsDurably(EntryId entry)
    {
        if (Machine.Durable.Index >= entry.Index)
        {
            return true;
        }

        return Log is { } log
            && log.DurableIndex >= entry.Index
            && (log.BeforeFirst.Index >= entry.Index || (log.TryTerm(entry.Index, out var term) && term == entry.Term));
    }

    private void Found(WriteAheadLog log, Membership founders)
    {
        var parts = new List<NodeChange>();
        foreach (var id in founders.Voters)
        {
            parts.Add(new NodeChange(MembershipChangeKind.AddVoter, id, founders.Addresses[id]));
        }

        var first = new LogEntry(
            new EntryId(1, 1), EntryKind.Configuration, new ConfigurationChange(ChangeTransition.Auto, parts).Encode());
        log.Append([
            WalRecord.Of(new HardState(1, 0)), WalRecord.Entry(first.Id, first.Kind, first.Payload), WalRecord.Commit(1),
        ]);
        log.Sync();
        _ = _simulation.Ledger.OnCommitted(Number, first, term: 1);
    }

    private void OnApplied(ulong index)
    {
        Mailbox.Post(EventKind.Applied, index);
        HasMail = true;
    }

    private void OnPersisted(ulong sequence)
    {
        Mailbox.Post(EventKind.Persisted, sequence);
        HasMail = true;
    }

    private CoreOptions CoreOptions()
    {
        var swarm = _simulation.Swarm;
        return new CoreOptions
        {
            NodeId = Id,
            ElectionTicks = swarm.ElectionTicks,
            HeartbeatTicks = swarm.HeartbeatTicks,
            MessageBytesMax = swarm.MessageBytesMax,
            InflightMessagesMax = swarm.InflightMessagesMax,
            UncommittedBytesMax = swarm.UncommittedBytesMax,
            ApplyBytesMax = swarm.ApplyBytesMax,
            LeaseNanoseconds = swarm.LeaseNanoseconds,
            Seed = _simulation.Dice.Number(),
        };
    }

    private DriverOptions DriverOptions()
    {
        var swarm = _simulation.Swarm;
        return new DriverOptions
        {
            Tick = new TimeSpan(Swarm.Tick / 100),
            ElectionTimeout = new TimeSpan(swarm.ElectionTimeout / 100),
            LeaderWait = new TimeSpan(swarm.LeaderWaitTicks * Swarm.Tick / 100),
            EntriesInFlightMax = swarm.EntriesInFlightMax,
            EntryBytesSoft = swarm.EntryBytesSoft,
            ForwardsInFlightMax = swarm.ForwardsInFlightMax,
            CacheBytesMax = swarm.CacheBytesMax,
            LogBytesMax = swarm.LogBytesMax,
            ApplyInline = swarm.ApplyInline,
            DiskStall = new TimeSpan(swarm.ElectionTimeout / 100),
        };
    }

    private DriverParts Parts(WriteAheadLog log, NodeStart start) => new()
    {
        Start = start,
        Core = Core!,
        Log = log,
        Machine = Machine,
        Mailbox = Mailbox,
        Outstanding = Outstanding,
        Persist = Persist!,
        Apply = Apply!,
        Links = new NodeTransport(_simulation, this),
        Fetcher = this,
        Snapshots = Snapshots!,
        LeaderChanged = _simulation.OnLeaderChanged,
    };

    private sealed class NodeClock(SimulationNode node) : TimeProvider
    {
        public override long TimestampFrequency => 1_000_000_000;

        public override long GetTimestamp() => node.LocalTime(node._simulation.Now);
    }
}

/// <summary>A snapshot on its way from one node to another.</summary>
internal sealed class SnapshotTransfer
{
    public required int From { get; init; }

    public required int FromLife { get; init; }

    public required int To { get; init; }

    public required int ToLife { get; init; }

    public required ulong Term { get; init; }

    public required MachineImage Image { get; init; }

    public bool Ok { get; set; }

    public bool IsOver { get; set; }
}

/// <summary>Snapshots of one node's life, as the server's transfers do it: the state first, then the log.</summary>
internal sealed class SimulationSnapshots(Simulation simulation, SimulationNode node) : ISnapshotTransfers
{
    private readonly Dictionary<ulong, ulong> _sending = [];
    private SnapshotTransfer? _incoming;
    private Action? _install;

    /// <inheritdoc/>
    public ulong KeepAfter => _sending.Count == 0 ? ulong.MaxValue : _sending.Values.Min();

    /// <inheritdoc/>
    public void Send(ulong peer, ulong term)
    {
        if (!_sending.TryAdd(peer, node.Machine.Durable.Index))
        {
            return;
        }

        var target = simulation.Nodes[(int)peer - 1];
        var transfer = new SnapshotTransfer
        {
            From = node.Number,
            FromLife = node.Life,
            To = target.Number,
            ToLife = target.Life,
            Term = term,
            Image = node.Machine.Image(),
        };
        var time = simulation.Dice.Between(Swarm.Millisecond, simulation.IsStormy ? simulation.Swarm.ElectionTimeout : 5 * Swarm.Millisecond);
        if (target.IsRunning && simulation.Network.IsConnected(node.Number, target.Number))
        {
            // Bound to no life of the receiver: the sender hears of its end.
            simulation.Plan(time, EventType.Snapshot, target.Number, life: -1, 0, transfer);
        }
        else
        {
            End(transfer, ok: false);
        }
    }

    /// <summary>All of it has arrived.</summary>
    public void Receive(SnapshotTransfer transfer)
    {
        if (_incoming is not null)
        {
            End(transfer, ok: false);
            return;
        }

        _incoming = transfer;
        node.Post(() => Offer(transfer));
    }

    /// <inheritdoc/>
    public Action TakeInstall()
    {
        var install = _install;
        Expect.That(install is not null, "snapshots", "there is nothing to install");
        _install = null;
        return install;
    }

    /// <summary>At the sender.</summary>
    public void OnEnd(SnapshotTransfer transfer)
    {
        _ = _sending.Remove((ulong)transfer.To + 1);
        node.Post(() => node.Core!.ReportSnapshot((ulong)transfer.To + 1, transfer.Image.Position, transfer.Ok));
    }

    /// <summary>This life ends.</summary>
    public void Abandon()
    {
        if (_incoming is { } incoming)
        {
            End(incoming, ok: false);
        }
    }

    public void End(SnapshotTransfer transfer, bool ok)
    {
        if (!transfer.IsOver)
        {
            transfer.IsOver = true;
            transfer.Ok = ok;
            simulation.Plan(simulation.Swarm.DelayMax, EventType.SnapshotEnd, transfer.From, transfer.FromLife, 0, transfer);
        }
    }

    private void Offer(SnapshotTransfer transfer)
    {
        var image = transfer.Image;
        var state = EngineState.Decode(image.EngineState);
        _install = () =>
        {
            // The server's thread waits here until the other one has applied what it was given.
            while (node.Apply!.RunOnce())
            {
            }

            node.Apply.Replace(image.Position.Index, state, () => node.Machine.Install(image));
            simulation.Counts.Snapshots++;
            _incoming = null;
            End(transfer, ok: true);
        };
        if (!node.Core!.OnSnapshotReceived((ulong)transfer.From + 1, transfer.Term, image.Position, state.Membership))
        {
            _install = null;
            _incoming = null;
            End(transfer, ok: false);
        }

        node.Driver!.Drain();
    }
}
