using System.Diagnostics;
using KvNode.Cluster.Tests.Harness;
using KvNode.Testing;

namespace KvNode.Cluster.Tests;

/// <summary>What the weaker levels of reading still promise, and what the strongest refuses.</summary>
public sealed class ReadLevelTests
{
    private static readonly TimeSpan LeaderWait = TimeSpan.FromSeconds(1);

    [Fact]
    public void MediumReadsAreLinearizableThroughTheLeadersDeathAndPause()
    {
        Seeds.Run(nameof(MediumReadsAreLinearizableThroughTheLeadersDeathAndPause), random =>
        {
            using var cluster = Harness.Cluster.Start(
                3, new ClusterOptions { Arguments = [.. ClusterOptions.Small, ClusterOptions.ConsistencyFlag, "medium"] });
            var load = new HistoryLoad(cluster, random).Start();
            load.WaitForProgress();
            var leader = cluster.WaitForLeader();
            leader.Kill9();
            _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
            leader.Start();
            load.WaitForProgress();

            leader = cluster.WaitForLeader();
            using var client = Harness.Cluster.Connect(leader);
            Assert.Equal("+OK", client.Text("SET", "paused", "before"));
            Assert.Equal("\"before\"", client.Text("GET", "paused"));
            // Cut off as well: when it goes on it hears nothing new, and only the time can tell that its lease has ended.
            cluster.Links.Partition([leader.Index], cluster.Others(leader.Index));
            leader.Pause();
            var next = cluster.WaitForLeader(leader);
            WriteAfter(cluster, next);
            Assert.Equal("\"after\"", Harness.Cluster.Ask(cluster.Nodes.Single(node => node != leader && node != next), "GET", "paused").ToString());

            client.Send("GET", "paused");
            client.Flush();
            leader.Resume();
            for (var i = 0; i < 20; i++)
            {
                Assert.Equal("+PONG", Harness.Cluster.Ask(leader, "PING").ToString());
            }

            cluster.Links.HealAll();
            var reply = client.Read();
            cluster.Require(
                reply.ToString() == "\"after\"" || (reply.IsError && Replies.FateOf(reply) == Fate.NotExecuted), $"GET answers {reply}");
            load.WaitForProgress();
            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }

    [Fact]
    public void LowReadsAnswerWhereHighOnesSayThatTheClusterIsDown()
    {
        var wait = $"{LeaderWait.TotalMilliseconds}";
        using var cluster = Harness.Cluster.Start(
            3, new ClusterOptions { Arguments = [.. ClusterOptions.Small, ClusterOptions.LeaderWaitFlag, wait] });
        var low = cluster.SomeFollower(cluster.WaitForLeader());
        low.RestartWith(ClusterOptions.ConsistencyFlag, "low");
        cluster.WaitUntilReachable(low);
        Assert.Equal("+OK", Harness.Cluster.Ask(low, "SET", "key", "old").ToString());
        cluster.WaitUntilLevel();

        // Cut off, it answers what it has; the others go on.
        cluster.Links.Partition([low.Index], cluster.Others(low.Index));
        var leader = cluster.WaitForLeader(low);
        var other = cluster.Nodes.Single(node => node != low && node != leader);
        Assert.Equal("+OK", Harness.Cluster.Ask(leader, "SET", "key", "new").ToString());
        Assert.Equal("\"new\"", Harness.Cluster.Ask(other, "GET", "key").ToString());
        cluster.WaitUntil(() => Local(other, "key") == "\"new\"", "the other one does not get the write");
        Assert.Equal("\"old\"", Harness.Cluster.Ask(low, "GET", "key").ToString());

        // Everybody alone: nothing fresh anywhere, and nobody pretends.
        cluster.Links.Partition([leader.Index], [other.Index]);
        foreach (var node in cluster.Nodes)
        {
            cluster.WaitUntil(() => node.TryInfo() is { Leader: "" }, $"{node} still knows a leader");
        }

        RequireDown(cluster, (low, ["SET", "key", "never"]), (leader, ["GET", "key"]), (other, ["MGET", "key", "key"]));
        Assert.Equal(["\"old\"", "\"new\"", "\"new\""], [Local(low, "key"), Local(leader, "key"), Local(other, "key")]);
        using (var client = Harness.Cluster.Connect(other))
        {
            Assert.Equal("+OK", client.Text("READONLY"));
            Assert.Equal("\"new\"", client.Text("GET", "key"));
            Assert.Equal("+OK", client.Text("READWRITE"));
            Assert.StartsWith("-CLUSTERDOWN ", client.Text("GET", "key"), StringComparison.Ordinal);
        }

        cluster.Heal();
        _ = cluster.WaitForLeader();
        foreach (var node in cluster.Nodes)
        {
            cluster.WaitUntil(() => Harness.Cluster.Ask(node, "GET", "key").ToString() == "\"new\"", $"{node} does not see the write");
        }

        cluster.RequireEqualStates();
    }

    private static void WriteAfter(Harness.Cluster cluster, ClusterNode node) => cluster.WaitUntil(
        () => Harness.Cluster.Ask(node, "SET", "paused", "after").ToString() == "+OK", "the new leader takes no write");

    /// <summary>A node's own state.</summary>
    private static string Local(ClusterNode node, string key)
    {
        using var client = Harness.Cluster.Connect(node);
        Assert.Equal("+OK", client.Text("READONLY"));
        return client.Text("GET", key);
    }

    /// <summary>All at once: each is refused, and not before a leader was waited for.</summary>
    private static void RequireDown(Harness.Cluster cluster, params (ClusterNode Node, string[] Command)[] all)
    {
        var clock = Stopwatch.StartNew();
        var clients = all.Select(static one => Harness.Cluster.Connect(one.Node)).ToArray();
        for (var i = 0; i < all.Length; i++)
        {
            clients[i].Send([.. all[i].Command.Select(static word => (RespArgument)word)]);
            clients[i].Flush();
        }

        for (var i = 0; i < all.Length; i++)
        {
            using var client = clients[i];
            var reply = client.Read();
            Console.WriteLine($"{all[i].Command[0]} at {all[i].Node}: {reply} after {clock.ElapsedMilliseconds} ms");
            cluster.Require(reply.ToString().StartsWith("-CLUSTERDOWN ", StringComparison.Ordinal), $"{all[i].Command[0]} answers {reply}");
            cluster.Require(clock.Elapsed >= LeaderWait, $"it waited {clock.ElapsedMilliseconds} ms for a leader");
        }
    }
}
