using KvNode.Raft;
using KvNode.Testing.Linearizability;

namespace KvNode.Simulation;

// Clients: each sends some commands to some node, waits for all answers, thinks, goes on.
internal sealed partial class Simulation
{
    private readonly List<Client> _clients = [];
    private readonly List<Command> _history = [];
    private readonly HashSet<Command> _denied = [];
    private ulong _batches;
    private long _values;

    /// <summary>The highest index of anything acknowledged.</summary>
    private ulong _acknowledged;

    private sealed class Client(int number, int node)
    {
        public int Number => number;

        public int Node { get; set; } = node;

        public List<Command> Waiting { get; } = [];

        public long WaitsSince { get; set; }

        /// <summary>It has had an answer to something it asked after everything was healed.</summary>
        public bool IsContent { get; set; }

        /// <summary>What waits now was asked after everything was healed.</summary>
        public bool AsksAfterHealing { get; set; }
    }

    /// <summary>A batch's end, from the node that its clients are connected to.</summary>
    public void OnOutcome(CommandBatch batch, ProposalOutcome outcome)
    {
        var isDenied = outcome.Status is not (ProposalStatus.Committed or ProposalStatus.Unknown);
        if (isDenied)
        {
            Ledger.OnNever(batch.Number, outcome.Status.ToString());
        }

        foreach (var command in batch.Commands)
        {
            if (isDenied)
            {
                Counts.Denied++;
                _ = _denied.Add(command);
            }

            var client = _clients[command.Client];
            if (!client.Waiting.Remove(command))
            {
                // Its client has long gone.
                continue;
            }

            if (outcome.Status == ProposalStatus.Committed)
            {
                Acknowledge(command);
                client.IsContent |= client.AsksAfterHealing;
            }
            else
            {
                Counts.Unknown += outcome.Status == ProposalStatus.Unknown ? 1 : 0;
            }

            if (client.Waiting.Count == 0)
            {
                Think(client);
            }
        }

        if (_trace is not null)
        {
            Trace($"   batch {batch.Number}: {outcome.Status}");
        }
    }

    private void Acknowledge(Command command)
    {
        Counts.Acknowledged++;
        command.ReturnedAt = Steps;
        Expect.That(command.TouchedIndex > 0, "not executed", $"{command.ToOperation()} was acknowledged and never executed");
        Expect.That(
            command.SeenIndex >= command.LeastIndex,
            "stale",
            $"{command.ToOperation()} saw the state at {command.SeenIndex}; {command.LeastIndex} was acknowledged before it was called");
        _acknowledged = Math.Max(_acknowledged, command.TouchedIndex);
    }

    private void Think(Client client)
    {
        if (IsStormy || !client.IsContent)
        {
            Plan(Dice.Between(0, Swarm.Think), EventType.Client, -1, -1, client.Number);
        }
    }

    private void OnClient(Client client)
    {
        if (client.Waiting.Count > 0 || (!IsStormy && client.IsContent))
        {
            return;
        }

        if (Dice.Next(8) == 0 || !Nodes[client.Node].IsRunning || (!IsStormy && !IsMember(client.Node)))
        {
            client.Node = Dice.Next(Nodes.Count);
        }

        var node = Nodes[client.Node];
        if (!node.IsRunning || (!IsStormy && !IsMember(client.Node)))
        {
            Plan(10 * Swarm.Millisecond, EventType.Client, -1, -1, client.Number);
            return;
        }

        var isReading = Dice.Next(3) == 0;
        if (isReading && IsStormy && Swarm.Lease && Dice.Next(2) == 0)
        {
            // Whoever has been leader longest may not be it any more.
            node = OldestLeader() ?? node;
            client.Node = node.Number;
        }

        client.WaitsSince = Now;
        client.AsksAfterHealing = !IsStormy;
        var count = Dice.Next(4) == 0 ? Dice.Between(2, 4) : 1;
        for (var i = 0; i < count; i++)
        {
            var command = NewCommand(client.Number, isReading);
            _history.Add(command);
            client.Waiting.Add(command);
        }

        Counts.Commands += count;
        Send(client, node, isReading);
    }

    private SimulationNode? OldestLeader()
    {
        SimulationNode? oldest = null;
        foreach (var node in Nodes)
        {
            if (node.IsRunning && node.Driver!.View.Role == RaftRole.Leader
                && (oldest is null || node.Driver.View.Term < oldest.Driver!.View.Term))
            {
                oldest = node;
            }
        }

        return oldest;
    }

    private void Send(Client client, SimulationNode node, bool isReading)
    {
        if (isReading && node.PausedUntil <= Now && Dice.Next(4) != 0 && MayReadHere(node))
        {
            foreach (var command in client.Waiting)
            {
                node.Machine.ReadHere(command);
                Acknowledge(command);
                Counts.LocalReads++;
            }

            client.Waiting.Clear();
            client.IsContent |= client.AsksAfterHealing;
            Think(client);
            return;
        }

        var batch = node.OpenBatch;
        if (batch is null || batch.IsSealed || Dice.Next(2) == 0)
        {
            node.OpenBatch = batch = new CommandBatch(this, ++_batches, Dice.Next(Swarm.Padding + 1));
            Expect.That(node.Mailbox.TryPropose(batch), "batches", "the mailbox is closed");
            Wake(node.Number);
        }

        batch.Commands.AddRange(client.Waiting);
        if (_trace is not null)
        {
            Trace($"client {client.Number} at {node.Number}: {string.Join("; ", client.Waiting.ConvertAll(static command => command.ToOperation()))}, "
                + $"batch {batch.Number}");
        }
    }

    /// <summary>As the engine decides it for reads that trust the lease.</summary>
    private bool MayReadHere(SimulationNode node)
    {
        var view = node.Driver!.View;
        return view.ServesAlone
            || (view.Commit <= node.Apply!.AppliedIndex && node.LocalTime(Now) < view.LeaseEnd && view.Commit <= node.Apply.AppliedIndex);
    }

    private Command NewCommand(int client, bool isReading)
    {
        var key = (byte)(1 << Dice.Next(Keys.Count));
        var kind = isReading
            ? Dice.Next(6) switch { 0 => OperationKind.MultiGet, 1 => OperationKind.Range, _ => OperationKind.Get }
            : Dice.Next(12) switch
            {
                0 => OperationKind.Delete,
                1 => OperationKind.PatternDelete,
                2 or 3 => OperationKind.MultiSet,
                4 or 5 => OperationKind.Get,
                _ => OperationKind.Set,
            };
        var prefix = Dice.Next(2) == 0 ? "a" : "b";
        var mask = kind switch
        {
            OperationKind.MultiGet or OperationKind.MultiSet => (byte)(key | (1 << Dice.Next(Keys.Count))),
            OperationKind.Range or OperationKind.PatternDelete => Keys.OfPrefix(prefix),
            _ => key,
        };
        return new Command(client, kind, mask, ++_values, prefix, Steps) { LeastIndex = _acknowledged };
    }

    /// <summary>The node's end is the end of its connections.</summary>
    private void Disconnect(int node)
    {
        foreach (var client in _clients)
        {
            if (client.Node == node && client.Waiting.Count > 0)
            {
                GiveUp(client);
            }
        }
    }

    private void GiveUp(Client client)
    {
        Counts.Unknown += client.Waiting.Count;
        client.Waiting.Clear();
        client.Node = Dice.Next(Nodes.Count);
        Plan(Dice.Between(0, Swarm.Think), EventType.Client, -1, -1, client.Number);
    }

    private void CheckHistory()
    {
        var history = new List<Operation>(_history.Count);
        foreach (var command in _history)
        {
            if (!_denied.Contains(command))
            {
                history.Add(command.ToOperation());
            }
        }

        var limits = new CheckLimits { ConfigurationsMax = 200_000, StepsMax = 2_000_000 };
        var result = LinearizabilityChecker.Check(history, limits);
        Counts.Undecided += result.Verdict == Verdict.Undecided ? 1 : 0;
        Expect.That(result.Verdict != Verdict.Violation, "linearizability", result.Explanation);
    }
}
