using KvNode.Cluster.Tests.Harness;
using KvNode.Testing;

namespace KvNode.Cluster.Tests;

/// <summary>The last resort: one node of a lost cluster goes on as a new one.</summary>
public sealed class RecoveryTests
{
    [Fact]
    public void OneNodeOfThreeGoesOnAloneWithAllDataAndOldMembersStayOut()
    {
        Seeds.Run(nameof(OneNodeOfThreeGoesOnAloneWithAllDataAndOldMembersStayOut), random =>
        {
            using var cluster = Harness.Cluster.Start(
                3, new ClusterOptions { Arguments = [.. ClusterOptions.Small, ClusterOptions.LeaderWaitFlag, "500"] });
            var load = new HistoryLoad(cluster, random).Start();
            load.WaitForProgress(300);
            load.StopAndCheck();
            cluster.WaitUntilLevel();
            var kept = cluster.SomeFollower(cluster.WaitForLeader());
            var lost = cluster.Nodes.Where(node => node != kept).ToArray();
            var (before, digest) = (kept.TryInfo()!, Harness.Cluster.DigestOf(kept));
            Array.ForEach(lost, static node => node.Kill9());

            // Not on a node that runs, and not by a slip.
            Assert.Equal(ExitCodes.InUse, Recover(kept, "--force-new-cluster").ExitCode);
            Assert.StartsWith("-CLUSTERDOWN ", Harness.Cluster.Ask(kept, "SET", "two", "are missing").ToString(), StringComparison.Ordinal);
            kept.Kill9();
            Assert.Equal(ExitCodes.Usage, Recover(kept).ExitCode);
            var recovered = Recover(kept, "--force-new-cluster");
            Assert.Equal(ExitCodes.Success, recovered.ExitCode);
            Assert.Contains("WARNING", recovered.Text, StringComparison.Ordinal);
            kept.Start();
            var after = cluster.WaitForLeader().TryInfo()!;
            Assert.Equal((before.NodeId, 1, 1), (after.NodeId, after.Members, after.Voters));
            Assert.NotEqual(before.ClusterId, after.ClusterId);
            Assert.Contains($"was in cluster {before.ClusterId}", recovered.Text, StringComparison.Ordinal);
            Assert.Contains($"is now cluster {after.ClusterId}", recovered.Text, StringComparison.Ordinal);
            Assert.Equal(digest, Harness.Cluster.DigestOf(kept));
            Assert.Equal("+OK", Harness.Cluster.Ask(kept, "SET", "alone", "again").ToString());

            OldMemberStaysOut(cluster, kept, lost[0], random);
            Array.ForEach(lost, cluster.Drop);
            var fresh = cluster.Join();
            Assert.Equal(after.ClusterId, fresh.TryInfo()!.ClusterId);
            Assert.Equal("\"again\"", Harness.Cluster.Ask(fresh, "GET", "alone").ToString());
            cluster.RequireEqualStates();
        });
    }

    /// <summary>It calls the recovered one, whose address it knows, and is not let in.</summary>
    private static void OldMemberStaysOut(Harness.Cluster cluster, ClusterNode kept, ClusterNode old, Random random)
    {
        var term = kept.TryInfo()!.Term;
        old.Start(kept.Advertised);
        var load = new HistoryLoad(cluster, random, new LoadOptions { Clients = 4 }).Start();
        cluster.WaitUntil(
            () => kept.AllLog().Contains("refused", StringComparison.Ordinal)
                && old.AllLog().Contains("does not let this node in", StringComparison.Ordinal),
            "nobody says that the old member is not let in");
        Assert.StartsWith("-CLUSTERDOWN ", Harness.Cluster.Ask(old, "SET", "old", "member").ToString(), StringComparison.Ordinal);
        Assert.Equal("", old.TryInfo()!.Leader);
        _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
        load.StopAndCheck();
        var info = kept.TryInfo()!;
        Assert.Equal((term, true, 1), (info.Term, info.IsLeader, info.Members));
    }

    private static ToolResult Recover(ClusterNode node, params string[] flags) => Tool.Run(
        Repository.NodeBinary,
        ["recover", .. flags, "--data", node.Data, ClusterOptions.AdvertiseFlag, node.Advertised]);
}
