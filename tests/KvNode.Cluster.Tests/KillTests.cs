using KvNode.Cluster.Tests.Harness;
using KvNode.Testing;

namespace KvNode.Cluster.Tests;

/// <summary>Three nodes whose processes are killed and paused, under clients that write everything down.</summary>
public sealed class KillTests
{
    private static readonly TimeSpan FailoverMax = TimeSpan.FromSeconds(3);

    [Fact]
    public void ClusterSurvivesKill9OfLeaderFollowerAndMajority()
    {
        Seeds.Run(nameof(ClusterSurvivesKill9OfLeaderFollowerAndMajority), random =>
        {
            using var cluster = Harness.Cluster.Start(3);
            var load = new HistoryLoad(cluster, random).Start();
            load.WaitForProgress();

            var leader = cluster.WaitForLeader();
            leader.Kill9();
            var taken = TimeSpan.FromMicroseconds(load.WaitForWriteSentAfter(HistoryLoad.Now));
            Console.WriteLine($"failover by kill -9 under load: {taken.TotalMilliseconds:f0} ms");
            leader.Start();
            load.WaitForProgress();

            cluster.SomeFollower(cluster.WaitForLeader()).Kill9();
            load.WaitForProgress();
            cluster.Heal();

            foreach (var node in cluster.Nodes.Take(2))
            {
                node.Kill9();
            }

            cluster.Heal();
            load.WaitForProgress();
            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }

    [Fact]
    public void NextWriteIsAcknowledgedWithinThreeSecondsOfTheLeadersDeath()
    {
        // At the defaults, one quiet client of each follower.
        using var cluster = Harness.Cluster.Start(3, new ClusterOptions { Arguments = [] });
        for (var round = 0; round < 2; round++)
        {
            var leader = cluster.WaitForLeader();
            using var client = Harness.Cluster.Connect(cluster.SomeFollower(leader));
            Assert.Equal("+OK", client.Text("SET", "before", $"{round}"));
            leader.Kill9();
            var from = HistoryLoad.Now;
            RespValue reply;
            do
            {
                reply = client.Call("SET", "after", $"{round}");
            }
            while (reply.IsError && Replies.FateOf(reply) != Fate.Unexpected);
            var taken = TimeSpan.FromMicroseconds(HistoryLoad.Now - from);
            Console.WriteLine($"failover: {taken.TotalMilliseconds:f0} ms");
            Assert.Equal("+OK", reply.ToString());
            cluster.Require(taken < FailoverMax, $"the next write took {taken.TotalMilliseconds:f0} ms");
            leader.Start();
            cluster.WaitUntilLevel();
        }
    }

    [Fact]
    public void PausedLeaderIsReplacedAndAnswersNothingOldWhenItComesBack()
    {
        Seeds.Run(nameof(PausedLeaderIsReplacedAndAnswersNothingOldWhenItComesBack), random =>
        {
            using var cluster = Harness.Cluster.Start(3);
            var load = new HistoryLoad(cluster, random).Start();
            load.WaitForProgress();
            var leader = cluster.WaitForLeader();

            // Reads that wait in its socket when it stops are answered when it comes back: with today's values.
            leader.Pause();
            _ = cluster.WaitForLeader(leader);
            _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
            leader.Resume();
            load.WaitForProgress();

            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }

    [Fact]
    public void RollingRestartLosesNothingAndHandsLeadershipOver()
    {
        Seeds.Run(nameof(RollingRestartLosesNothingAndHandsLeadershipOver), random =>
        {
            using var cluster = Harness.Cluster.Start(3);
            var load = new HistoryLoad(cluster, random).Start();
            foreach (var node in cluster.Nodes)
            {
                load.WaitForProgress();
                cluster.Require(node.Terminate() == ExitCodes.Success, $"node {node.Index} does not end cleanly");
                _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
                node.Start();
                cluster.WaitUntilReachable(node);
            }

            load.WaitForProgress();
            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }
}
