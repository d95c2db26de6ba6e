using System.Globalization;
using KvNode.Testing;

namespace KvNode.Cluster.Tests.Harness;

/// <summary>Does one bad thing after another to a cluster, each healed before the next, and keeps count.</summary>
internal sealed class Nemesis
{
    private readonly Cluster _cluster;
    private readonly Random _random;
    private readonly (string Name, Action<HistoryLoad> Do)[] _deeds;
    private readonly SortedDictionary<string, int> _done = new(StringComparer.Ordinal);
    private readonly List<double> _failovers = [];

    /// <param name="cluster">Three or five nodes, under the fault injector.</param>
    public Nemesis(Cluster cluster, Random random)
    {
        _cluster = cluster;
        _random = random;
        _deeds =
        [
            ("kill leader", KillLeader),
            ("kill follower", load => Harm(load, Follower().Kill9)),
            ("kill majority", KillMajority),
            ("kill all", KillAll),
            ("pause leader", load => Depose(load, static leader => leader.Pause())),
            ("pause follower", load => Harm(load, Follower().Pause)),
            ("isolate leader", load => Depose(load, leader => Links.Partition([leader.Index], Others(leader)))),
            ("deafen leader", load => Depose(load, leader => Links.Silence(Others(leader), [leader.Index]))),
            ("mute leader", load => Depose(load, leader => Links.Silence([leader.Index], Others(leader)))),
            ("bridge", Bridge),
            ("break connections", BreakConnections),
            ("slow links", SlowLinks),
            ("slow sync", load => Depose(load, static leader => leader.Faults.Set("fsync=delay:3000"))),
            ("failed sync", FailSync),
            ("full disk", load => Depose(load, static leader => leader.Faults.Set("write=ENOSPC allocate=ENOSPC"))),
            ("clock jump", load => Harm(load, () => Any().Faults.Set(_random.Next(2) == 0 ? "clock=+3600" : "clock=-3600"))),
            ("snapshot", Snapshot),
            ("terminate", Terminate),
            ("replace", Replace),
        ];
    }

    private LinkRules Links => _cluster.Links;

    public void DoSomething(HistoryLoad load)
    {
        var (name, deed) = _deeds[_random.Next(_deeds.Length)];
        _done[name] = _done.GetValueOrDefault(name) + 1;
        try
        {
            deed(load);
            _cluster.Heal();
            load.WaitForProgress(100);
        }
        catch (Exception failure)
        {
            throw new ClusterFailureException($"after '{name}' ({Summary()}): {failure.Message}");
        }
    }

    public string Summary()
    {
        var deeds = string.Join(", ", _done.Select(static pair => $"{pair.Key} {pair.Value}"));
        if (_failovers.Count == 0)
        {
            return deeds;
        }

        var sorted = _failovers.Order().ToArray();
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{deeds}; failover by kill -9: {sorted.Length} times, median {sorted[sorted.Length / 2]:f0} ms, worst {sorted[^1]:f0} ms");
    }

    private int[] Others(ClusterNode node) => _cluster.Others(node.Index);

    private ClusterNode Any() => _cluster.Nodes[_random.Next(_cluster.Nodes.Count)];

    private ClusterNode Follower() => _cluster.SomeFollower(_cluster.WaitForLeader());

    /// <summary>What a minority suffers must not stop the rest.</summary>
    private void Harm(HistoryLoad load, Action harm)
    {
        harm();
        _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
        load.WaitForProgress(_random.Next(20, 200));
    }

    /// <summary>Somebody else must lead.</summary>
    private void Depose(HistoryLoad load, Action<ClusterNode> harm)
    {
        var leader = _cluster.WaitForLeader();
        harm(leader);
        _ = _cluster.WaitForLeader(leader);
        _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
        load.WaitForProgress(_random.Next(20, 200));
    }

    private void KillLeader(HistoryLoad load)
    {
        var leader = _cluster.WaitForLeader();
        leader.Kill9();
        _failovers.Add(load.WaitForWriteSentAfter(HistoryLoad.Now) / 1000.0);
        load.WaitForProgress(_random.Next(20, 200));
    }

    private void KillMajority(HistoryLoad load)
    {
        var nodes = _cluster.Nodes.ToArray();
        _random.Shuffle(nodes);
        Array.ForEach(nodes[..((nodes.Length / 2) + 1)], static node => node.Kill9());
    }

    private void KillAll(HistoryLoad load)
    {
        foreach (var node in _cluster.Nodes)
        {
            node.Kill9();
        }
    }

    private void Bridge(HistoryLoad load)
    {
        var indices = _cluster.Indices;
        _random.Shuffle(indices);
        var half = indices.Length / 2;
        Links.Partition(indices[..half], indices[(half + 1)..]);
        _ = load.WaitForWriteSentAfter(HistoryLoad.Now + 1_500_000);
    }

    private void BreakConnections(HistoryLoad load)
    {
        for (var i = 0; i < 10; i++)
        {
            Any().Proxy.Break(Any().Index);
            load.WaitForProgress(10);
        }
    }

    private void SlowLinks(HistoryLoad load)
    {
        foreach (var one in _cluster.Indices)
        {
            foreach (var other in _cluster.Indices)
            {
                Links[one, other].DelayMilliseconds = _random.Next(40);
                Links[one, other].BytesPerSecond = _random.Next(2) == 0 ? 200_000 : 0;
            }
        }

        load.WaitForProgress(200);
    }

    private void FailSync(HistoryLoad load)
    {
        var node = Any();
        node.Faults.Set("fsync=EIO");
        var code = node.Process.WaitForExit();
        _cluster.Require(code == ExitCodes.SyncFailed, $"a failed sync ends the process with {code}");
        _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
    }

    private void Snapshot(HistoryLoad load)
    {
        using var client = Cluster.Connect(Any(), TimeSpan.FromSeconds(30));
        client.Send("RAFTSHRINKLOG");
        client.Send("RAFTSNAPSHOT");
        client.Flush();
        load.WaitForProgress(50);
        for (var i = 0; i < 2; i++)
        {
            var reply = client.Read();
            _cluster.Require(!reply.IsError || reply.Text.Contains("shrink", StringComparison.Ordinal), $"{reply}");
        }
    }

    private void Terminate(HistoryLoad load)
    {
        var node = Any();
        _cluster.Require(node.Terminate() == ExitCodes.Success, $"node {node.Index} does not end cleanly");
        _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
    }

    /// <summary>A new node comes, an old one goes.</summary>
    private void Replace(HistoryLoad load)
    {
        var old = Any();
        _ = _cluster.Join();
        _cluster.Remove(old);
        _cluster.WaitForVoters(_cluster.Nodes.Count - 1);
        _cluster.Drop(old);
        _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
    }
}
