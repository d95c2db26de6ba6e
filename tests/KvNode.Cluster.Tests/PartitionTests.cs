using System.Diagnostics;
using KvNode.Cluster.Tests.Harness;
using KvNode.Testing;

namespace KvNode.Cluster.Tests;

/// <summary>Nodes that cannot hear each other, by the proxies between them.</summary>
public sealed class PartitionTests
{
    /// <summary>The silence of a connection is noticed after 5 s and that of a leader after 2; then a second's wait for one.</summary>
    private static readonly TimeSpan UnheardMax = TimeSpan.FromSeconds(15);

    [Fact]
    public void ThreeNodesSurvivePartitionsOfTheLeader()
    {
        Seeds.Run(nameof(ThreeNodesSurvivePartitionsOfTheLeader), random =>
        {
            using var cluster = Harness.Cluster.Start(3);
            var load = new HistoryLoad(cluster, random).Start();
            load.WaitForProgress();

            // Cut off whole: the others elect, and the old leader's clients get no stale word.
            var leader = cluster.WaitForLeader();
            cluster.Links.Partition([leader.Index], cluster.Others(leader.Index));
            AssertTheOthersGoOn(cluster, load, leader);
            cluster.Heal();
            load.WaitForProgress();

            // It hears nobody, everybody hears it: its heartbeats must not keep a leader that cannot commit.
            leader = cluster.WaitForLeader();
            cluster.Links.Silence(cluster.Others(leader.Index), [leader.Index]);
            AssertTheOthersGoOn(cluster, load, leader);
            cluster.Heal();
            load.WaitForProgress();

            // Nobody hears it, it hears everybody.
            leader = cluster.WaitForLeader();
            cluster.Links.Silence([leader.Index], cluster.Others(leader.Index));
            AssertTheOthersGoOn(cluster, load, leader);
            cluster.Heal();
            load.WaitForProgress();

            // Connections that break, and links with delay, cost time and nothing else.
            for (var i = 0; i < 10; i++)
            {
                var node = cluster.Nodes[random.Next(3)];
                node.Proxy.Break(random.Next(3));
                cluster.Links[random.Next(3), random.Next(3)].DelayMilliseconds = random.Next(30);
                load.WaitForProgress(20);
            }

            cluster.Heal();
            load.WaitForProgress();
            load.StopAndCheck();
            cluster.RequireEqualStates();
            Assert.All(cluster.Nodes, static node => Assert.Equal(0, node.Proxy.Strangers));
        });
    }

    [Fact]
    public void FiveNodesSurviveBridgeAndMinority()
    {
        Seeds.Run(nameof(FiveNodesSurviveBridgeAndMinority), random =>
        {
            using var cluster = Harness.Cluster.Start(5);
            var load = new HistoryLoad(cluster, random).Start();
            load.WaitForProgress();

            // Two pairs that hear only one node in between: that one has a majority, and with it somebody leads.
            cluster.Links.Partition([0, 1], [3, 4]);
            _ = load.WaitForWriteSentAfter(HistoryLoad.Now + 2_000_000);
            cluster.Heal();
            load.WaitForProgress();

            // The leader with one other node is a minority.
            var leader = cluster.WaitForLeader();
            var with = cluster.SomeFollower(leader);
            cluster.Links.Partition([leader.Index, with.Index], cluster.Others(leader.Index, with.Index));
            AssertTheOthersGoOn(cluster, load, leader, with);
            cluster.Heal();
            load.WaitForProgress();
            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }

    [Fact]
    public void FollowerThatIsNotHeardAnswersItsClientsAndWorksAgainWhenItIs()
    {
        var arguments = (string[])[.. ClusterOptions.Small, ClusterOptions.LeaderWaitFlag, "1000"];
        using var cluster = Harness.Cluster.Start(3, new ClusterOptions { Arguments = arguments });
        var leader = cluster.WaitForLeader();
        var follower = cluster.SomeFollower(leader);
        cluster.WaitUntilReachable(follower);
        Assert.Equal("+OK", Harness.Cluster.Ask(follower, "SET", "before", "the cut").ToString());

        // It hears its leader and is not heard: what it brings there does not arrive, and nothing says so.
        cluster.Links.Silence([follower.Index], [leader.Index]);
        var clock = Stopwatch.StartNew();
        using var writer = Harness.Cluster.Connect(follower);
        using var reader = Harness.Cluster.Connect(follower);
        writer.Send("SET", "during", "the cut");
        writer.Flush();
        reader.Send("GET", "before");
        reader.Flush();
        Assert.Equal("+OK", Harness.Cluster.Ask(leader, "SET", "meanwhile", "elsewhere").ToString());
        var written = writer.Read();
        Console.WriteLine($"SET: {written} after {clock.ElapsedMilliseconds} ms");
        var read = reader.Read();
        Console.WriteLine($"GET: {read} after {clock.ElapsedMilliseconds} ms");
        cluster.Require(clock.Elapsed < UnheardMax, $"the answer took {clock.Elapsed.TotalSeconds:f1} s");
        cluster.Require(!written.IsError || Replies.FateOf(written) != Fate.Unexpected, $"SET answers {written}");
        cluster.Require(read.ToString() == "\"the cut\"" || (read.IsError && Replies.FateOf(read) != Fate.Unexpected), $"GET answers {read}");

        cluster.Heal();
        cluster.WaitUntil(() => Harness.Cluster.Ask(follower, "SET", "after", "the cut").ToString() == "+OK", "it takes no writes any more");
        var during = Harness.Cluster.Ask(leader, "GET", "during").ToString();
        cluster.Require(
            during == "nil" ? written.IsError : !written.IsError || Replies.FateOf(written) == Fate.Unknown, $"SET answered {written}, GET {during}");
        cluster.RequireEqualStates();
    }

    private static void AssertTheOthersGoOn(Harness.Cluster cluster, HistoryLoad load, params ClusterNode[] without)
    {
        _ = cluster.WaitForLeader(without);
        _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
        load.WaitForProgress(50);
    }
}
