using KvNode.Raft;
using KvNode.Raft.Core;

namespace KvNode.Simulation;

// Misfortunes.
internal sealed partial class Simulation
{
    private void OnWorldEvent(in Event item)
    {
        if (item.Type == EventType.Client)
        {
            OnClient(_clients[item.Number]);
            return;
        }

        if (!IsStormy)
        {
            return;
        }

        Misfortune();
        Operate();
        foreach (var client in _clients)
        {
            if (client.Waiting.Count > 0 && Now - client.WaitsSince > 15 * Swarm.ElectionTimeout && Dice.Next(10) == 0)
            {
                GiveUp(client);
            }
        }

        Plan(Dice.Between(Swarm.FaultEvery / 4, Swarm.FaultEvery * 2), EventType.Fault, -1, -1);
    }

    private void Misfortune()
    {
        var node = Dice.Pick(Nodes);
        switch (Dice.Next(10))
        {
            case < 2 when Swarm.Has(Faults.Crashes) && node.IsRunning:
                CrashSoon(node);
                break;
            case 2 when Swarm.Has(Faults.SyncFailures):
                node.Disk.FailsSync = true;
                break;
            case 3 when Swarm.Has(Faults.FullDisks):
                node.Disk.IsFull = !node.Disk.IsFull;
                node.Machine.WriteRefusal = node.Disk.IsFull && Dice.Next(2) == 0 ? "the disk is full" : null;
                break;
            case 4 when Swarm.Has(Faults.SlowDisks):
                node.IsSlow = !node.IsSlow;
                break;
            case 5 when Swarm.Has(Faults.Pauses):
                // Short ones as well: a pause within which nobody misses the node is another matter than a long one.
                var longest = Dice.Next(2) == 0 ? Swarm.ElectionTimeout / 2 : 4 * Swarm.ElectionTimeout;
                node.PausedUntil = Now + Dice.Between(Swarm.Millisecond, longest);
                break;
            case 6 when Swarm.Has(Faults.LinkBreaks) && Nodes.Count > 1:
                Network.Break(node.Number, Dice.Next(Nodes.Count));
                break;
            case 7 or 8 when Swarm.Has(Faults.Partitions):
                Partition();
                break;
            case 9:
                Network.HealAll(Nodes.Count);
                break;
            default:
                break;
        }
    }

    private void CrashSoon(SimulationNode node)
    {
        if (Dice.Next(2) == 0)
        {
            // In the middle of something that it will write.
            node.Disk.DiesAfter = Dice.Next(12);
            return;
        }

        Crash(node, Dice.Next(2) == 0 ? CrashKind.Process : AnyPowerLoss());
        if (Dice.Next(8) == 0)
        {
            foreach (var other in Nodes)
            {
                if (other.IsRunning)
                {
                    // The whole site.
                    Crash(other, AnyPowerLoss());
                }
            }
        }
    }

    private CrashKind AnyPowerLoss() => Swarm.Has(Faults.TornWrites)
        ? (CrashKind)(1 + Dice.Next(3))
        : CrashKind.LosesAll;

    private void Crash(SimulationNode node, CrashKind kind)
    {
        Trace($"node {node.Number} crashes: {kind}");
        Counts.Crashes++;
        node.Stop();
        node.Disk.Crash(kind);
        Network.BreakAll(node.Number);
        Disconnect(node.Number);
        Plan(Dice.Between(Swarm.Millisecond, 5 * Swarm.ElectionTimeout), EventType.Restart, node.Number, -1);
    }

    private void StartNode(SimulationNode node, Membership? founders)
    {
        try
        {
            node.Start(founders);
        }
        catch (LogCorruptException e)
        {
            Expect.Fail("cannot start", $"node {node.Number}: {e.Message}");
        }
        catch (KvNode.Raft.Wal.DiskFullException)
        {
            node.Stop();
            Plan(50 * Swarm.Millisecond, EventType.Restart, node.Number, -1);
            return;
        }

        Trace($"node {node.Number} starts: log up to {node.Log!.Last}, applied {node.Machine.Applied}, {node.Log.HardState}");
        if (Swarm.Has(Faults.Crashes) && IsStormy && Dice.Next(8) == 0)
        {
            node.Disk.DiesAfter = Dice.Next(40);
        }

        foreach (var other in Nodes)
        {
            if (other.IsRunning && other.WantsPeer(node.Number))
            {
                Network.Connect(node.Number, other.Number);
            }
        }

        if (node.Driver!.IsAlone)
        {
            node.Core!.Campaign();
        }

        Plan(Dice.Between(1, Swarm.CheckpointEvery), EventType.Checkpoint, node.Number, node.Life);
        Wake(node.Number);
    }

    private void Partition()
    {
        Counts.Partitions++;
        Network.HealAll(Nodes.Count);
        var one = Dice.Next(Nodes.Count);
        switch (Dice.Next(5))
        {
            case 0:
                Isolate(one, inward: true, outward: true);
                break;
            case 1:
                Isolate(one, inward: true, outward: false);
                break;
            case 2:
                Isolate(one, inward: false, outward: true);
                break;
            case 3:
                // Two sides.
                var side = Dice.Next(1 << Nodes.Count);
                Divide(left => ((side >> left) & 1) != 0, bridge: -1);
                break;
            default:
                // Two sides with one node that both reach.
                var bridged = Dice.Next(1 << Nodes.Count);
                Divide(left => ((bridged >> left) & 1) != 0, bridge: one);
                break;
        }
    }

    private void Isolate(int one, bool inward, bool outward)
    {
        Trace($"node {one} is cut off:{(inward ? " it hears nobody" : "")}{(outward ? " nobody hears it" : "")}");
        for (var other = 0; other < Nodes.Count; other++)
        {
            if (inward)
            {
                Network.Block(other, one);
            }

            if (outward)
            {
                Network.Block(one, other);
            }
        }
    }

    private void Divide(Func<int, bool> isLeft, int bridge)
    {
        Trace($"a partition, bridge {bridge}");
        for (var one = 0; one < Nodes.Count; one++)
        {
            for (var other = 0; other < Nodes.Count; other++)
            {
                if (isLeft(one) != isLeft(other) && one != bridge && other != bridge)
                {
                    Network.Block(one, other);
                }
            }
        }
    }
}
