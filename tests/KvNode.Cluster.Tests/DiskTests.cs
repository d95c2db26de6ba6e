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
    public void FollowerWithAFullDiskRefusesAndAnswersUntilThereIsRoomAgain()
    {
        using var cluster = Harness.Cluster.Start(
            3, new ClusterOptions { WithFaults = true, Arguments = [.. ClusterOptions.Small, ClusterOptions.LeaderWaitFlag, "1000"] });
        var leader = cluster.WaitForLeader();
        var full = cluster.SomeFollower(leader);
        Assert.Equal("+OK", Harness.Cluster.Ask(full, "SET", "before", "1").ToString());
        full.Faults.Set("write=ENOSPC allocate=ENOSPC");
        Assert.Equal("+OK", Harness.Cluster.Ask(leader, "SET", "since", "1").ToString());

        // What is on its way while the disk fills is of unknown outcome; from then on nothing is.
        cluster.WaitUntil(() => Refused("SET", "refused", "1"), "the node with the full disk refuses no write");
        cluster.Require(Refused("GET", "since"), "it reads what it cannot have");
        using (var client = Harness.Cluster.Connect(full))
        {
            Assert.Equal("+OK", client.Text("READONLY"));
            Assert.Equal("\"1\"", client.Text("GET", "before"));
        }

        full.Faults.Set("");
        cluster.WaitUntil(() => Harness.Cluster.Ask(full, "SET", "after", "1").ToString() == "+OK", "it accepts no writes again");
        Assert.Equal("\"1\"", Harness.Cluster.Ask(full, "GET", "since").ToString());
        cluster.RequireEqualStates();

        bool Refused(params ReadOnlySpan<RespArgument> words) =>
            Harness.Cluster.Ask(full, words).ToString().StartsWith("-MISCONF ", StringComparison.Ordinal);
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
