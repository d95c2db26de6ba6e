using KvNode.Cluster.Tests.Harness;
using KvNode.Testing;

namespace KvNode.Cluster.Tests;

/// <summary>Nodes in network namespaces, where packets are really lost.</summary>
public sealed class NamespaceTests
{
    [Fact]
    public void ClusterSurvivesPulledCablesAndOneWayLoss()
    {
        Seeds.Run(nameof(ClusterSurvivesPulledCablesAndOneWayLoss), random =>
        {
            using var network = NetworkNamespaces.Require(3, random);
            using var cluster = Harness.Cluster.Start(3, new ClusterOptions
            {
                Network = network,
                Environment = new Dictionary<string, string>(StringComparer.Ordinal) { [ClusterOptions.SecretVariable] = "known to these three nodes only" },
            });
            var load = new HistoryLoad(cluster, random, new LoadOptions { Timeout = TimeSpan.FromSeconds(3) }).Start();
            load.WaitForProgress();

            var leader = cluster.WaitForLeader();
            network.Cut(leader.Index);
            _ = cluster.WaitForLeader(leader);
            _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
            network.Heal();
            load.WaitForProgress();

            // The leader is heard by nobody but its clients.
            leader = cluster.WaitForLeader();
            foreach (var other in cluster.Others(leader.Index))
            {
                network.Silence(leader.Index, other);
            }

            _ = cluster.WaitForLeader(leader);
            _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
            network.Heal();
            load.WaitForProgress();
            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }

    [Fact]
    public void NetworkOfTheTestsOwnLosesWhatItIsToldTo()
    {
        using var network = NetworkNamespaces.Require(1, new Random(Environment.ProcessId));
        using var directory = new TempDirectory("namespace");
        using var node = NodeProcess.Spawn(
            new NodeOptions { DataDirectory = directory.Path, Address = network.AddressOf(0), Launcher = network.LauncherOf(0) },
            NetworkNamespaces.Port);
        node.WaitUntilReady(TimeSpan.FromSeconds(60));
        using var client = node.Connect(TimeSpan.FromMilliseconds(300));
        Assert.Equal("+OK", client.Text("SET", "k", "v"));
        network.Cut(0);
        _ = Assert.Throws<TimeoutException>(() => client.Text("GET", "k"));
        network.Heal();
        client.Timeout = TimeSpan.FromSeconds(30);
        Assert.Equal("\"v\"", client.Read().ToString());
    }
}
