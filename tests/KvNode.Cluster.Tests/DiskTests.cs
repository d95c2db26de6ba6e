using KvNode.Cluster.Tests.Harness;
using KvNode.Testing;

namespace KvNode.Cluster.Tests;

/// <summary>Disks and clocks that fail under one node of three, by the LD_PRELOAD injector.</summary>
public sealed class DiskTests
{
    [Fact]
    public void LeaderWithABadDiskStepsAsideAndNothingIsLost()
    {
        Seeds.Run(nameof(LeaderWithABadDiskStepsAsideAndNothingIsLost), random =>
        {
            using var cluster = Harness.Cluster.Start(3, new ClusterOptions { WithFaults = true });
            var load = new HistoryLoad(cluster, random).Start();
            load.WaitForProgress();

            // Syncs that take three seconds: leadership does not stay there.
            var leader = cluster.WaitForLeader();
            leader.Faults.Set("fsync=delay:3000");
            _ = cluster.WaitForLeader(leader);
            load.WaitForProgress(50);
            cluster.Heal();
            load.WaitForProgress();

            // A sync that fails ends the process with a code of its own.
            leader = cluster.WaitForLeader();
            leader.Faults.Set("fsync=EIO");
            Assert.Equal(ExitCodes.SyncFailed, leader.Process.WaitForExit());
            _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
            cluster.Heal();
            load.WaitForProgress();

            // A full disk under the leader: writes go on by the others.
            leader = cluster.WaitForLeader();
            leader.Faults.Set("write=ENOSPC allocate=ENOSPC");
            _ = cluster.WaitForLeader(leader);
            load.WaitForProgress(50);
            cluster.Heal();
            load.WaitForProgress();
            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }

    [Fact]
    public void WallClockJumpsCauseNoElection()
    {
        Seeds.Run(nameof(WallClockJumpsCauseNoElection), random =>
        {
            using var cluster = Harness.Cluster.Start(3, new ClusterOptions { WithFaults = true });
            var load = new HistoryLoad(cluster, random, new LoadOptions { Clients = 4 }).Start();
            load.WaitForProgress();
            string[] jumps = ["clock=+3600", "clock=-3600", ""];
            foreach (var jump in jumps)
            {
                var leader = cluster.WaitForLeader();
                var term = leader.TryInfo()?.Term;
                foreach (var node in cluster.Nodes)
                {
                    node.Faults.Set(jump);
                }

                load.WaitForProgress(300);
                cluster.Require(
                    cluster.WaitForLeader() == leader && leader.TryInfo()?.Term == term, $"an election after {jump}");
            }

            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }
}
