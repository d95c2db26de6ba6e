using KvNode.Cluster.Tests.Harness;
using KvNode.Testing;

namespace KvNode.Cluster.Tests;

/// <summary>Nodes come and go while clients work.</summary>
public sealed class MembershipTests
{
    [Fact]
    public void NodesJoinAreRemovedAndReplacedUnderLoad()
    {
        Seeds.Run(nameof(NodesJoinAreRemovedAndReplacedUnderLoad), random =>
        {
            using var cluster = Harness.Cluster.Start(1);
            var load = new HistoryLoad(cluster, random).Start();
            load.WaitForProgress();
            _ = cluster.Join();
            _ = cluster.Join();
            load.WaitForProgress();
            _ = cluster.Join();
            load.WaitForProgress();

            // The leader removes itself: another leads, and the removed one keeps still.
            var leader = cluster.WaitForLeader();
            cluster.Remove(leader);
            _ = cluster.WaitForLeader(leader);
            cluster.WaitForVoters(3);
            cluster.Drop(leader);
            load.WaitForProgress();

            // One is lost for good and replaced by a new one.
            var lost = cluster.SomeFollower(cluster.WaitForLeader());
            lost.Kill9();
            cluster.Remove(lost);
            cluster.Drop(lost);
            cluster.WaitForVoters(2);
            _ = cluster.Join();
            load.WaitForProgress();
            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }

    [Fact]
    public void RemovedNodeThatRestartsDisturbsNobody()
    {
        Seeds.Run(nameof(RemovedNodeThatRestartsDisturbsNobody), random =>
        {
            using var cluster = Harness.Cluster.Start(3);
            var removed = cluster.SomeFollower(cluster.WaitForLeader());
            removed.Kill9();
            cluster.Remove(removed);
            cluster.WaitForVoters(2);
            var term = cluster.WaitForLeader().TryInfo()!.Term;
            var load = new HistoryLoad(cluster, random, new LoadOptions { Clients = 4 }).Start();
            removed.Spawn();

            // Several election timeouts long.
            _ = load.WaitForWriteSentAfter(HistoryLoad.Now + 4_000_000);
            cluster.Require(cluster.WaitForLeader(removed).TryInfo()!.Term == term, "the removed node caused an election");
            cluster.Require(removed.AllLog().Contains("removed", StringComparison.OrdinalIgnoreCase), "it does not say that it was removed");

            // It has noted it, too: once stopped it does not start again, whomever it is told to join.
            Assert.Equal(ExitCodes.Success, removed.Terminate());
            foreach (var join in (string?[])[null, cluster.WaitForLeader().Advertised])
            {
                removed.Spawn(join);
                Assert.Equal(ExitCodes.Removed, removed.WaitForExit());
                Assert.Contains("this node was removed from its cluster", removed.Process.ErrorText, StringComparison.Ordinal);
            }

            cluster.Drop(removed);
            load.WaitForProgress();
            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }

    [Fact]
    public void NodesThatMayNotJoinSayWhyAndEndWithTheirOwnExitCode()
    {
        using var cluster = Harness.Cluster.Start(
            3, new ClusterOptions { Arguments = [.. ClusterOptions.Small, ClusterOptions.SecretFlag, "what all of its nodes know"] });
        Assert.Equal("+OK", Harness.Cluster.Ask(cluster.Nodes[1], "SET", "by", "a secret").ToString());
        var through = cluster.Nodes[0].Advertised;

        // Another secret, and none.
        foreach (var secret in (string[][])[[ClusterOptions.SecretFlag, "what others know"], []])
        {
            var stranger = cluster.Add();
            stranger.Arguments = [.. ClusterOptions.Small, .. secret];
            RequireNoEntry(stranger, through, "cannot join");
            cluster.Drop(stranger);
        }

        // A member that does not know any more who it was keeps its data, and does not come back as another one: neither
        // at first nor when it is tried again.
        var forgetful = cluster.Nodes[1];
        forgetful.Kill9();
        var identity = Path.Combine(forgetful.Data, "identity");
        File.Move(identity, identity + ".away");
        for (var attempt = 0; attempt < 2; attempt++)
        {
            RequireNoEntry(forgetful, through, "bring it back", ExitCodes.BadData);
        }

        File.Move(identity + ".away", identity, overwrite: true);
        forgetful.Start();
        cluster.WaitUntilReachable(forgetful);

        // A member that has lost its disk is another node, and the old one has its place until it is removed.
        var wiped = cluster.Nodes[2];
        var id = wiped.TryInfo()!.NodeId;
        wiped.Kill9();
        wiped.Wipe();
        RequireNoEntry(wiped, through, $"RAFT SERVER REMOVE {id}");
        Assert.Equal(3, cluster.WaitForLeader().TryInfo()!.Members);
        Assert.Equal("+OK", Harness.Cluster.Ask(cluster.WaitForLeader(), "RAFT", "SERVER", "REMOVE", id).ToString());
        wiped.Wipe();
        wiped.Start(through);
        cluster.WaitForVoters(3);
        cluster.RequireEqualStates();
    }

    [Fact]
    public void FollowerLeftBehindTheLogCatchesUpBySnapshotUnderLoad()
    {
        Seeds.Run(nameof(FollowerLeftBehindTheLogCatchesUpBySnapshotUnderLoad), random =>
        {
            using var cluster = Harness.Cluster.Start(3);
            var load = new HistoryLoad(cluster, random, new LoadOptions { Clients = 5 }).Start();
            load.WaitForProgress();
            var leader = cluster.WaitForLeader();
            var behind = cluster.SomeFollower(leader);
            var applied = behind.TryInfo()!.Applied;
            behind.Kill9();
            using (var client = Harness.Cluster.Connect(leader))
            {
                // More than the log keeps.
                var value = new string('x', 100_000);
                for (var i = 0; i < 150; i++)
                {
                    Assert.Equal("+OK", client.Text("SET", $"bulk:{i:d4}", value));
                }

                Assert.Equal("+OK", client.Text("RAFTSHRINKLOG"));
                Assert.Equal("+OK", client.Text("RAFTSNAPSHOT"));
            }

            var first = cluster.WaitForLeader().TryInfo()!.FirstLog;
            cluster.Require(first > applied, $"the log still begins at {first}, the follower is at {applied}");
            behind.Start();
            load.WaitForProgress();
            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }

    private static void RequireNoEntry(ClusterNode node, string through, string reason, int code = ExitCodes.JoinRefused)
    {
        node.Spawn(through);
        Assert.Equal(code, node.WaitForExit());
        Assert.Contains(reason, node.Process.ErrorText, StringComparison.Ordinal);
    }
}
