using KvNode.Raft;
using KvNode.Raft.Core;

namespace KvNode.Simulation;

// The operator: changes of the cluster, and the end of all troubles.
internal sealed partial class Simulation
{
    private const int NodesAtOnceMax = 7;

    /// <summary>What was asked for, and who is not needed any more once it is done.</summary>
    private readonly List<(Task<AdminOutcome> Outcome, ulong[] Leaving)> _changes = [];

    private void Operate()
    {
        if (Swarm.Has(Faults.Wipes))
        {
            // People stop who has left as soon as they hear "done".
            var leaver = Nodes.FirstOrDefault(node => !node.IsLost && HasLeft(node.Id));
            if (Dice.Next(leaver is null ? 20 : 2) == 0)
            {
                Wipe(leaver ?? Dice.Pick(Nodes));
            }
        }

        if (Leader() is not { } leader)
        {
            return;
        }

        if (Swarm.Has(Faults.Transfers) && Dice.Next(8) == 0)
        {
            ulong? target = Dice.Next(2) == 0 ? null : (ulong)Dice.Next(Nodes.Count) + 1;
            Counts.Transfers++;
            Do(leader, () => _ = leader.Driver!.TransferTo(target));
        }

        if (Swarm.Has(Faults.Membership) && Dice.Next(4) == 0)
        {
            LeaveJoint(leader);
            ProposeSomething(leader);
        }
        else if (Swarm.Has(Faults.Wipes))
        {
            ReplaceLost(leader);
        }
    }

    private SimulationNode? Leader()
    {
        SimulationNode? leader = null;
        foreach (var node in Nodes)
        {
            if (node.IsRunning && node.Core!.Role == CoreRole.Leader && (leader is null || node.Core.Term > leader.Core!.Term))
            {
                leader = node;
            }
        }

        return leader;
    }

    private void Do(SimulationNode node, Action action)
    {
        node.Post(action);
        Wake(node.Number);
    }

    private void ProposeSomething(SimulationNode leader)
    {
        var membership = leader.Core!.Membership;
        var member = Dice.Pick([.. membership.Addresses.Keys]);
        switch (Dice.Next(9))
        {
            case 0 or 1 when Room():
                var learner = NewNode();
                Propose(leader, ChangeTransition.Auto, [new(MembershipChangeKind.AddLearner, learner.Id, AddressOf(learner.Number))]);
                Do(leader, () => leader.Driver!.PromoteWhenReady(learner.Id));
                break;
            case 2:
                Propose(leader, ChangeTransition.Auto, [new(MembershipChangeKind.Promote, member, "")]);
                break;
            case 3:
                Propose(leader, ChangeTransition.Auto, [new(MembershipChangeKind.Demote, member, "")]);
                break;
            case 4 or 5:
                Propose(leader, ChangeTransition.Auto, [new(MembershipChangeKind.Remove, member, "")]);
                break;
            case 6 when Room():
                Replace(leader, member);
                break;
            case 7:
                var other = Dice.Pick([.. membership.Addresses.Keys]);
                Propose(
                    leader,
                    (ChangeTransition)Dice.Next(3),
                    [new(MembershipChangeKind.Demote, member, ""), new(MembershipChangeKind.Promote, other, "")]);
                break;
            default:
                ReplaceLost(leader);
                break;
        }
    }

    private void Replace(SimulationNode leader, ulong old)
    {
        var fresh = NewNode();
        Propose(
            leader,
            (ChangeTransition)Dice.Next(3),
            [new(MembershipChangeKind.AddVoter, fresh.Id, AddressOf(fresh.Number)), new(MembershipChangeKind.Remove, old, "")]);
    }

    /// <summary>Who will never come back is removed.</summary>
    private void ReplaceLost(SimulationNode leader)
    {
        foreach (var id in leader.Core!.Membership.Addresses.Keys)
        {
            if (!Nodes[(int)id - 1].IsLost)
            {
                continue;
            }

            if (Room() && Dice.Next(2) == 0)
            {
                Replace(leader, id);
            }
            else
            {
                Propose(leader, ChangeTransition.Auto, [new(MembershipChangeKind.Remove, id, "")]);
            }

            return;
        }
    }

    private bool Room()
    {
        var running = 0;
        foreach (var node in Nodes)
        {
            running += node.IsRunning ? 1 : 0;
        }

        return running < NodesAtOnceMax && Nodes.Count < Network.NodesMax;
    }

    /// <summary>An empty node that waits to be told.</summary>
    private SimulationNode NewNode()
    {
        var node = new SimulationNode(this, Nodes.Count);
        Nodes.Add(node);
        StartNode(node, founders: null);
        return node;
    }

    /// <summary>Proposes a change, if the cluster can live with it: who is lost for good cannot make up a majority.</summary>
    private void Propose(SimulationNode leader, ChangeTransition transition, IReadOnlyList<NodeChange> parts)
    {
        var change = new ConfigurationChange(transition, parts);
        var before = leader.Core!.Membership;
        if (before.TryApply(change, out _) is not { } after || !CanLiveWith(after, lost: -1))
        {
            return;
        }

        var done = new TaskCompletionSource<AdminOutcome>();
        var leaving = parts.Where(static part => part.Kind == MembershipChangeKind.Remove).Select(static part => part.NodeId);
        _changes.Add((done.Task, !after.IsJoint || after.AutoLeave ? [.. leaving] : []));
        Do(leader, () => leader.Driver!.Change(change, done));
        Trace($"proposed to {leader.Number}: {transition} {string.Join(", ", parts)}");
    }

    private void LeaveJoint(SimulationNode leader)
    {
        var membership = leader.Core!.Membership;
        if (membership.IsJoint && !membership.AutoLeave)
        {
            var done = new TaskCompletionSource<AdminOutcome>();
            _changes.Add((done.Task, []));
            Do(leader, () => leader.Driver!.Change(ConfigurationChange.LeaveJoint, done));
        }
    }

    private bool CanLiveWith(Membership membership, int lost) =>
        HasMajority(membership.Voters, lost) && HasMajority(membership.Outgoing, lost);

    private bool HasMajority(IReadOnlyList<ulong> voters, int lost)
    {
        var left = 0;
        foreach (var id in voters)
        {
            var number = (int)id - 1;
            left += Nodes[number].IsLost || number == lost ? 0 : 1;
        }

        return voters.Count == 0 || left > voters.Count / 2;
    }

    /// <summary>A disk is lost for good: of one who has left, or when a majority stays whatever is under way.</summary>
    private void Wipe(SimulationNode victim)
    {
        if (victim.IsLost || !(HasLeft(victim.Id) || CanBeMissed(victim)))
        {
            return;
        }

        Crash(victim, CrashKind.LosesAll);
        victim.IsLost = true;
        Counts.Wipes++;
        Trace($"node {victim.Number} has lost its disk");
    }

    /// <summary>Its removal was reported done: nobody needs it any more.</summary>
    private bool HasLeft(ulong id) => _changes.Exists(change => IsDone(change.Outcome) && change.Leaving.Contains(id));

    private static bool IsDone(Task<AdminOutcome> outcome) => outcome is { IsCompletedSuccessfully: true, Result.Ok: true };

    private bool CanBeMissed(SimulationNode victim)
    {
        foreach (var node in Nodes)
        {
            if (node.IsLost)
            {
                continue;
            }

            // A learner may be about to be made a voter.
            if (!node.IsRunning || !CanLiveWith(node.Core!.Membership, victim.Number) || HasOpenChange(node.Core)
                || node.Core.Membership.IsLearner(victim.Id))
            {
                return false;
            }
        }

        return _changes.TrueForAll(static change => change.Outcome.IsCompleted);
    }

    private static bool HasOpenChange(RaftCore core)
    {
        for (var index = Math.Max(core.Applied + 1, core.Log.FirstInMemory); index <= core.Log.Last.Index; index++)
        {
            if (core.Log.At(index).Kind == EntryKind.Configuration)
            {
                return true;
            }
        }

        return false;
    }

    private void Heal()
    {
        Trace("everything is healed");
        IsStormy = false;
        _healedAt = Now;
        foreach (var node in Nodes)
        {
            node.Disk.DiesAfter = -1;
            node.Disk.FailsSync = false;
            node.Disk.IsFull = false;
            node.Machine.WriteRefusal = null;
            node.IsSlow = false;
            node.PausedUntil = 0;
            node.RightClock(Now);
            if (!node.IsRunning)
            {
                Plan(Swarm.Millisecond, EventType.Restart, node.Number, -1);
            }
        }

        Network.HealAll(Nodes.Count);
        foreach (var client in _clients)
        {
            if (client.Waiting.Count > 0 && !IsMember(client.Node))
            {
                GiveUp(client);
            }
            else
            {
                Think(client);
            }
        }
    }

    /// <summary>What an operator goes on doing after the storm: nothing new, but what is half done.</summary>
    private void KeepOperating()
    {
        if (Leader() is { } leader)
        {
            LeaveJoint(leader);
        }

        foreach (var client in _clients)
        {
            if (client.Waiting.Count > 0 && !IsMember(client.Node))
            {
                GiveUp(client);
            }
        }
    }

    /// <summary>As the leader sees it; while there is none, everybody is.</summary>
    private bool IsMember(int node) => Leader() is not { } leader || leader.Core!.Membership.Contains((ulong)node + 1);

    private bool HasConverged()
    {
        if (Leader() is not { } leader || leader.Core!.Applied != leader.Core.Log.Last.Index || leader.Core.Membership.IsJoint)
        {
            return false;
        }

        foreach (var client in _clients)
        {
            if (!client.IsContent || client.Waiting.Count > 0)
            {
                return false;
            }
        }

        foreach (var id in leader.Core.Membership.Addresses.Keys)
        {
            var node = Nodes[(int)id - 1];
            if (!node.IsLost && (!node.IsRunning || node.Machine.Applied != leader.Machine.Applied))
            {
                return false;
            }
        }

        return true;
    }

    private string WhyNotConverged()
    {
        var text = new System.Text.StringBuilder("after everything was healed:");
        foreach (var node in Nodes)
        {
            _ = node.IsRunning
                ? text.Append($" node {node.Number} {node.Core!.Role} term {node.Core.Term} leader {node.Core.Leader} last {node.Core.Log.Last} "
                    + $"commit {node.Core.Commit} applied {node.Core.Applied} of {node.Core.Membership}, waiting {node.Outstanding.Count}+{node.Mailbox.BatchCount};")
                : text.Append($" node {node.Number} down{(node.IsLost ? " for good" : "")};");
            node.Outstanding.Visit(text, static (text, ref item) =>
            {
                _ = text.Append($" [{(item.IsRead ? "read" : "write")} {item.Number} {item.State}]");
                return true;
            });
        }

        foreach (var client in _clients)
        {
            _ = text.Append($" client {client.Number} at {client.Node} {(client.IsContent ? "content" : "not content")}, waits for {client.Waiting.Count};");
        }

        return text.ToString();
    }

    private void CheckEnd()
    {
        var leader = Leader()!;
        foreach (var id in leader.Core!.Membership.Addresses.Keys)
        {
            var node = Nodes[(int)id - 1];
            if (node.IsLost)
            {
                continue;
            }

            Expect.That(
                node.Machine.Digest == leader.Machine.Digest,
                "state digests",
                $"nodes {node.Number} and {leader.Number} end with different states");
            Digest(node);
        }

        foreach (var change in _changes)
        {
            Counts.Changes += IsDone(change.Outcome) ? 1 : 0;
        }

        CheckHistory();
    }
}
