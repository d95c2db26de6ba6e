using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Core.Units;

public sealed class ReplicationTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(5)]
    public void ALeaderIsElectedAndEveryNodeAppliesWhatItCommits(int nodes)
    {
        var cluster = TinyCluster.Led(nodes);
        cluster.Propose(1);
        cluster.Propose(1);
        cluster.Settle();
        foreach (var node in cluster.Nodes.Values)
        {
            Assert.Equal(1ul, node.Core.Leader);
            Assert.Equal(3ul, node.Core.Commit);
            Assert.Equal(3ul, node.Core.Applied);
            Assert.Equal(3ul, node.Core.Durable);
        }
    }

    [Fact]
    public void NothingIsCommittedWithoutAMajority()
    {
        var cluster = TinyCluster.Led(3);
        cluster.Drops = static message => message.To != 1;
        cluster.Propose(1);
        cluster.Settle();
        Assert.Equal(1ul, cluster[1].Commit);
        cluster.Drops = static _ => false;
        cluster.Tick(3);
        Assert.Equal(2ul, cluster[1].Commit);
        Assert.Equal(2ul, cluster[3].Applied);
    }

    [Fact]
    public void AnotherNodeTakesOverWhenTheLeaderIsGone()
    {
        var cluster = TinyCluster.Led(3);
        cluster.Drops = static message => message.To == 1 || message.From == 1;
        cluster.Tick(60);
        Assert.NotEqual(CoreRole.Leader, cluster[1].Role);
        var leader = cluster[2].Leader;
        Assert.Contains(leader, new ulong[] { 2, 3 });
        cluster.Propose(leader);
        cluster.Settle();
        Assert.Equal(3ul, cluster[leader].Applied);
        cluster.Drops = static _ => false;
        cluster.Tick(3);
        Assert.Equal(leader, cluster[1].Leader);
        Assert.Equal(3ul, cluster[1].Applied);
    }
}
