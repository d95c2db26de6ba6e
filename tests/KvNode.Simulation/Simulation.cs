using KvNode.Native;
using KvNode.Raft;
using KvNode.Raft.Core;

namespace KvNode.Simulation;

/// <summary>How a run ended.</summary>
/// <param name="Check">Which check failed; null when all held.</param>
/// <param name="Digest">Of everything that happened.</param>
internal sealed record Outcome(ulong Seed, long Steps, ulong Digest, string? Check, string Message, Counts Counts)
{
    public bool IsOk => Check is null;
}

/// <summary>How often what a run is about happened.</summary>
internal sealed class Counts
{
    public int Leaders;
    public int Crashes;
    public int Snapshots;
    public int Changes;
    public int Transfers;
    public int Wipes;
    public int Partitions;
    public int Commands;
    public int Acknowledged;
    public int Unknown;
    public int Denied;
    public int LocalReads;
    public int Undecided;

    public void Add(Counts other)
    {
        Leaders += other.Leaders;
        Crashes += other.Crashes;
        Snapshots += other.Snapshots;
        Changes += other.Changes;
        Transfers += other.Transfers;
        Wipes += other.Wipes;
        Partitions += other.Partitions;
        Commands += other.Commands;
        Acknowledged += other.Acknowledged;
        Unknown += other.Unknown;
        Denied += other.Denied;
        LocalReads += other.LocalReads;
        Undecided += other.Undecided;
    }

    public override string ToString() =>
        $"{Leaders} changes of leader, {Crashes} crashes, {Snapshots} snapshots, {Changes} changes of members, {Transfers} transfers, "
        + $"{Wipes} wiped, {Partitions} partitions, {Commands} commands ({Acknowledged} acknowledged, {Unknown} unknown, "
        + $"{Denied} refused, {LocalReads} read by lease), {Undecided} histories undecided";
}

/// <summary>
/// A cluster with its clients, its network and its misfortunes, on one thread and from one seed: the server's own core,
/// driver, stages and log; the disk, the time, the network and the state machine are simulated.
/// </summary>
internal sealed partial class Simulation
{
    private const int DigestEvery = 16;

    private readonly EventQueue _queue = new();
    private readonly ulong _seed;
    private readonly long _stepsMax;
    private readonly Action<string>? _trace;
    private ulong _digest;
    private long _healedAt;

    private Simulation(ulong seed, long steps, Faults allowed, Action<string>? trace)
    {
        _seed = seed;
        _stepsMax = steps;
        _trace = trace;
        Dice = new Dice(seed);
        Swarm = new Swarm(seed, allowed);
        Network = new Network(this);
    }

    public Dice Dice { get; }

    public Swarm Swarm { get; }

    public Network Network { get; }

    public Ledger Ledger { get; } = new();

    public List<SimulationNode> Nodes { get; } = [];

    public Counts Counts { get; } = new();

    /// <summary>Nanoseconds since the beginning, as nobody in the simulation can see them.</summary>
    public long Now { get; private set; }

    public long Steps { get; private set; }

    /// <summary>False once everything has been healed.</summary>
    public bool IsStormy { get; private set; } = true;

    /// <summary>A whole run. The same arguments give the same outcome.</summary>
    public static Outcome Run(ulong seed, long steps, Faults allowed = Faults.All, Action<string>? trace = null)
    {
        var simulation = new Simulation(seed, steps, allowed, trace);
        try
        {
            simulation.Run();
            return simulation.End(null, "");
        }
        catch (ViolationException violation)
        {
            return simulation.End(violation.Check, violation.Message);
        }
        catch (Exception e)
        {
            return simulation.End($"exception {e.GetType().Name}", trace is null ? e.Message : e.ToString());
        }
        finally
        {
            foreach (var node in simulation.Nodes)
            {
                node.Log?.Dispose();
            }
        }
    }

    public void Plan(long delay, EventType type, int node, int life, int number = 0, object? data = null) =>
        _queue.Add(Now + delay, type, node, life, number, data);

    /// <summary>A node has mail: its next turn comes soon.</summary>
    public void Wake(int number)
    {
        var node = Nodes[number];
        if (!node.IsRunning)
        {
            return;
        }

        node.HasMail = true;
        PlanTurn(node);
    }

    public void OnSending(SimulationNode node, in Message message)
    {
        node.Checks.OnSending(node, message);
        if (_trace is not null)
        {
            Trace($"{node.Number} -> {message.To - 1} {message.Type} term {message.Term} {message.Entry} commit {message.Commit} "
                + $"{(message.Reject ? "reject " : "")}round {message.ReadRound} context {message.Context} entries {message.Entries.Length}");
        }
    }

    public void OnSendingInOrder(Packet packet, int to)
    {
        if (_trace is not null)
        {
            Trace($"{packet.From} -> {to} {packet.Kind} {packet.Sequence} term {packet.Term}, connected {Network.IsConnected(packet.From, to)}");
        }
    }

    public void OnLeaderChanged(ulong term, ulong leader) => Counts.Leaders += leader == 0 ? 0 : 1;

    /// <summary>Whether majorities of both halves have an entry on disk.</summary>
    public bool IsHeldByQuorum(EntryId entry, Membership membership) =>
        IsHeldByQuorum(entry, membership.Voters) && IsHeldByQuorum(entry, membership.Outgoing);

    private bool IsHeldByQuorum(EntryId entry, IReadOnlyList<ulong> voters)
    {
        var holders = 0;
        foreach (var id in voters)
        {
            holders += Nodes[(int)id - 1].HoldsDurably(entry) ? 1 : 0;
        }

        return voters.Count == 0 || holders > voters.Count / 2;
    }

    private void Trace(string text) => _trace?.Invoke($"{Steps,7} {Now / 1000,10} us  {text}");

    private Outcome End(string? check, string message)
    {
        if (check is not null)
        {
            Trace($"VIOLATION {check}: {message}");
        }

        return new Outcome(_seed, Steps, _digest, check, message, Counts);
    }

    private void Run()
    {
        Found();
        while (Steps < _stepsMax && _queue.Count > 0)
        {
            Step();
        }

        Heal();
        // Long enough for any election and any wait, and for a slow one after it.
        var end = _healedAt + (200 * Swarm.ElectionTimeout) + (Swarm.LeaderWaitTicks * Swarm.Tick);
        while (!HasConverged())
        {
            for (var i = 0; i < DigestEvery && _queue.Count > 0; i++)
            {
                Step();
            }

            Expect.That(Now < end && _queue.Count > 0, "no progress", WhyNotConverged());
            KeepOperating();
        }

        CheckEnd();
    }

    private void Found()
    {
        var members = new (ulong Id, string Address)[Swarm.Nodes];
        for (var i = 0; i < members.Length; i++)
        {
            members[i] = ((ulong)i + 1, AddressOf(i));
        }

        var founders = Membership.OfVoters(members);
        for (var i = 0; i < Swarm.Nodes; i++)
        {
            Nodes.Add(new SimulationNode(this, i));
        }

        foreach (var node in Nodes)
        {
            StartNode(node, founders);
        }

        for (var i = 0; i < Swarm.Clients; i++)
        {
            _clients.Add(new Client(i, Dice.Next(Nodes.Count)));
            Plan(Dice.Between(0, 50 * Swarm.Millisecond), EventType.Client, -1, -1, i);
        }

        Plan(Swarm.FaultEvery, EventType.Fault, -1, -1);
    }

    private static string AddressOf(int node) => $"n{node}";

    private void Step()
    {
        var item = _queue.Take();
        Now = item.At;
        if (item.Node < 0)
        {
            Steps++;
            OnWorldEvent(item);
            return;
        }

        var node = Nodes[item.Node];
        if (item.Life >= 0 && item.Life != node.Life)
        {
            return;
        }

        if (node.PausedUntil > Now && item.Life >= 0)
        {
            _queue.Add(node.PausedUntil, item.Type, item.Node, item.Life, item.Number, item.Data);
            return;
        }

        Steps++;
        try
        {
            OnNodeEvent(item, node);
            if (node.IsRunning)
            {
                AfterWork(node);
            }
        }
        catch (PowerLossException)
        {
            Crash(node, AnyPowerLoss());
        }
        catch (IOException e) when (IsOfTheDisk(e))
        {
            // A failed sync ends the process; what it was about is in the page cache or nowhere.
            Crash(node, CrashKind.Process);
        }

        if ((Steps & (DigestEvery - 1)) == 0 && node.IsRunning)
        {
            Digest(node);
        }
    }

    /// <summary>The server ends itself for these.</summary>
    private static bool IsOfTheDisk(Exception e) =>
        e is SyncFailedException || (e.InnerException is { } inner && IsOfTheDisk(inner));

    private void Digest(SimulationNode node)
    {
        var core = node.Core!;
        _digest = Hash.Mix(_digest, (ulong)Now);
        _digest = Hash.Mix(_digest, (core.Term << 32) + core.Commit + ((ulong)core.Role << 60));
        _digest = Hash.Mix(_digest, core.Log.Last.Index ^ node.Machine.Digest);
        CheckUpToDate(node);
    }

    /// <summary>A log that would win the other's vote has everything that the other knows to be committed.</summary>
    private void CheckUpToDate(SimulationNode node)
    {
        foreach (var other in Nodes)
        {
            if (!other.IsRunning || other == node)
            {
                continue;
            }

            var (last, theirs) = (node.Core!.Log.Last, other.Core!.Log.Last);
            var (better, worse) = last.Term > theirs.Term || (last.Term == theirs.Term && last.Index >= theirs.Index)
                ? (node, other)
                : (other, node);
            var commit = worse.Core!.Commit;
            var log = better.Core!.Log;
            Expect.That(
                commit <= log.BeforeFirst.Index || (log.TryTerm(commit, out var term) && term == Ledger.TermOf(commit)),
                "up-to-date check",
                $"node {better.Number} with {log.Last} lacks what node {worse.Number} has committed, {commit}");
        }
    }

    private void OnNodeEvent(in Event item, SimulationNode node)
    {
        switch (item.Type)
        {
            case EventType.Tick:
                node.IsTickPlanned = false;
                Turn(node);
                break;
            case EventType.Turn:
                node.IsTurnPlanned = false;
                Turn(node);
                break;
            case EventType.Deliver:
                Deliver(node, (Packet)item.Data!, item.Number);
                break;
            case EventType.Disk:
                OnDisk(node);
                break;
            case EventType.Apply:
                node.IsApplyPlanned = false;
                _ = node.Apply!.RunOnce();
                break;
            case EventType.Checkpoint:
                node.Machine.Checkpoint();
                Plan(Swarm.CheckpointEvery, EventType.Checkpoint, node.Number, node.Life);
                break;
            case EventType.Fetch:
                Fetch(node, (FetchRequest)item.Data!);
                break;
            case EventType.Snapshot:
                OnSnapshot(node, (SnapshotTransfer)item.Data!);
                break;
            case EventType.SnapshotEnd:
                node.Snapshots!.OnEnd((SnapshotTransfer)item.Data!);
                break;
            case EventType.Connect:
                Network.OnConnect(item.Node, item.Number);
                break;
            case EventType.Restart when !node.IsRunning && !node.IsLost:
                StartNode(node, founders: null);
                break;
            default:
                break;
        }
    }

    private void Turn(SimulationNode node)
    {
        node.HasMail = false;
        node.Driver!.Turn(node.LocalTime(Now));
    }

    private void Deliver(SimulationNode node, Packet packet, int connection)
    {
        if (!Network.StillArrives(packet, node.Number, connection))
        {
            return;
        }

        if (_trace is not null && packet.Kind != PacketKind.Message)
        {
            Trace($"{node.Number} has {packet.Kind} {packet.Sequence} of {packet.From}, {node.Core!.Role} in {node.Core.Membership}, "
                + $"transfer to {node.Core.TransferTarget}, refusal {node.Machine.WriteRefusal}");
        }

        node.Sink!.Deliver(packet);
        node.HasMail = true;
        // Much of what waited while the node stood still arrives together.
        if (!Dice.Chance(Now == node.PausedUntil ? 0.5 : Swarm.TurnChance))
        {
            Turn(node);
        }
    }

    private void OnDisk(SimulationNode node)
    {
        node.IsDiskBusy = false;
        if (!node.Persist!.TryFinish())
        {
            node.IsDiskBusy = true;
            Plan(10 * Swarm.Millisecond, EventType.Disk, node.Number, node.Life);
        }
    }

    private static void Fetch(SimulationNode node, FetchRequest request)
    {
        var entries = node.Log!.ReadEntries(request.FirstIndex, ulong.MaxValue, request.BytesMax);
        node.Mailbox.Post(new KvNode.Raft.Engine.Event
        {
            Kind = KvNode.Raft.Engine.EventKind.Fetched,
            A = request.Peer,
            State = entries.ToArray(),
        });
        node.HasMail = true;
    }

    private void OnSnapshot(SimulationNode node, SnapshotTransfer transfer)
    {
        if (node.IsRunning && node.Life == transfer.ToLife && Network.IsConnected(transfer.From, transfer.To))
        {
            if (Swarm.Has(Faults.Crashes) && IsStormy && Dice.Next(4) == 0)
            {
                // Somewhere in the installation.
                node.Disk.DiesAfter = Dice.Next(8);
            }

            node.Snapshots!.Receive(transfer);
        }
        else if (Nodes[transfer.From] is { IsRunning: true } sender && sender.Life == transfer.FromLife)
        {
            sender.Snapshots!.End(transfer, ok: false);
        }
    }

    /// <summary>What the event left to be done, and whether all is as it must be.</summary>
    private void AfterWork(SimulationNode node)
    {
        node.Checks.AfterEvent(node, Ledger);
        if (!node.IsDiskBusy && node.Persist!.TryBegin())
        {
            node.IsDiskBusy = true;
            Plan(DiskTime(node), EventType.Disk, node.Number, node.Life);
        }

        if (!node.IsApplyPlanned && node.Apply!.HasWork)
        {
            node.IsApplyPlanned = true;
            Plan(Dice.Between(1000L, Swarm.ApplyLatency), EventType.Apply, node.Number, node.Life);
        }

        if (node.HasMail || (node.Mailbox.BatchCount > 0 && node.Driver!.WantsBatches))
        {
            PlanTurn(node);
        }

        if (!node.IsTickPlanned && node.Driver!.WaitMilliseconds(node.LocalTime(Now)) is var wait and >= 0)
        {
            node.IsTickPlanned = true;
            var time = (long)(Math.Max(wait, 1) * Swarm.Millisecond / node.Rate);
            Plan(time, EventType.Tick, node.Number, node.Life);
        }
    }

    private void PlanTurn(SimulationNode node)
    {
        if (!node.IsTurnPlanned)
        {
            node.IsTurnPlanned = true;
            Plan(Dice.Between(500L, Swarm.TurnLatency), EventType.Turn, node.Number, node.Life);
        }
    }

    private long DiskTime(SimulationNode node)
    {
        if (node.IsSlow && Dice.Next(4) == 0)
        {
            return Dice.Between(Swarm.DiskLatency, 4 * Swarm.ElectionTimeout);
        }

        return Dice.Between(Swarm.DiskLatency / 4, Swarm.DiskLatency);
    }
}
