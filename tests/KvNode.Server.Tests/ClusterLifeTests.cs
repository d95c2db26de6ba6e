using KvNode.Raft;
using KvNode.Raft.Engine;
using KvNode.Server.Hosting;
using KvNode.Testing;
using Xunit;
using ExitCodes = KvNode.Server.Hosting.ExitCodes;

namespace KvNode.Server.Tests;

/// <summary>Nodes come, change their place and go: engines, stores and sockets as in a server, without clients.</summary>
public sealed class ClusterLifeTests : IAsyncDisposable
{
    private readonly ClusterRig _rig = new();

    public ValueTask DisposeAsync() => _rig.DisposeAsync();

    [Fact]
    public async Task ANodeJoinsLearnsVotesAndMayBeRestartedWithAndWithoutJoin()
    {
        var a = await _rig.StartAsync("a");
        Assert.Equal("+OK\r\n", await a.SetAsync("one"));
        var b = await _rig.StartAsync("b", join: a.Address);
        await b.SeesAsync(voters: 2);
        await b.UntilAsync(() => b.Has("one"), () => "the key does not arrive");
        Assert.Equal("+OK\r\n", await b.SetAsync("two"));
        foreach (var join in (string?[])[null, a.Address])
        {
            await b.DisposeAsync();
            b = await _rig.StartAsync("b", join, b.Port);
            await b.UntilAsync(() => b.Status.LeaderId != 0, () => "no leader");
            Assert.Equal("+OK\r\n", await b.SetAsync($"again {join}"));
            Assert.Equal(2, b.Status.Members.Count);
        }
    }

    [Fact]
    public async Task AWaitingNodeIsAddedAndAnAddressWithoutOneCostsNothing()
    {
        var a = await _rig.StartAsync("a");
        var nobody = $"127.0.0.1:{Ports.Free()}";
        var refused = await a.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.AddVoter, 0, nobody));
        Assert.False(refused.Ok);
        Assert.Contains(nobody, refused.Detail, StringComparison.Ordinal);
        Assert.Equal("+OK\r\n", await a.SetAsync("still here"));

        var b = await _rig.StartAsync("b", join: "wait");
        var added = await a.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.AddVoter, 0, b.Address));
        Assert.Equal(new AdminOutcome(true, $"{b.Status.NodeId:x16}"), added);
        await b.SeesAsync(voters: 2);
        var again = await b.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.AddVoter, 0, b.Address));
        Assert.Equal(new AdminOutcome(false, "peer already known"), again);
    }

    [Fact]
    public async Task ANodeThatCannotJoinYetSaysOnceWhomItAsksAndWhy()
    {
        var nobody = $"127.0.0.1:{Ports.Free()}";
        var lost = await _rig.StartAsync("lost", join: nobody);
        await lost.UntilAsync(() => Said(lost, nobody, "refused") == 1, () => "nothing is said of an address without a node");

        var waits = await _rig.StartAsync("waits", join: "wait");
        var early = await _rig.StartAsync("early", join: waits.Address);
        await early.UntilAsync(() => Said(early, waits.Address, "in no cluster itself") == 1, () => "nothing is said of a node without a cluster");

        // It goes on asking without a word, and gets in when there is a cluster.
        var a = await _rig.StartAsync("a");
        var added = await a.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.AddVoter, 0, waits.Address));
        Assert.True(added.Ok, added.Detail);
        await early.SeesAsync(voters: 3);
        Assert.Equal(1, Said(early, waits.Address, "in no cluster itself"));
        Assert.Equal(1, Said(lost, nobody, "refused"));

        static int Said(RigNode node, string address, string reason) => node.Notes.Count(note =>
            note.Contains($"the cluster of {address} yet", StringComparison.Ordinal) && note.Contains(reason, StringComparison.OrdinalIgnoreCase));
    }

    [Fact]
    public async Task ANodeWithAClusterOfItsOwnIsNotTakenAway()
    {
        var a = await _rig.StartAsync("a");
        var other = await _rig.StartAsync("other");
        var refused = await a.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.AddVoter, 0, other.Address));
        Assert.False(refused.Ok);
        Assert.Contains("cluster of its own", refused.Detail, StringComparison.Ordinal);
        _ = Assert.Single(a.Status.Members);
        _ = Assert.Single(other.Status.Members);
    }

    [Fact]
    public async Task AnAddedLearnerStaysOneUntilItIsPromotedAndADemotedVoterAfterARestart()
    {
        var a = await _rig.StartAsync("a");
        var b = await _rig.StartAsync("b", join: "wait");
        Assert.True((await a.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.AddLearner, 0, b.Address))).Ok);
        await b.SeesAsync(voters: 1, learners: 1);
        Assert.Equal("+OK\r\n", await b.SetAsync("through a learner"));
        var promoted = await b.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.Promote, 0, b.Address));
        Assert.True(promoted.Ok, promoted.Detail);
        await b.SeesAsync(voters: 2);
        await b.UntilAsync(() => b.Notes.Any(static note => note.Contains("a voter", StringComparison.Ordinal)), () => "no note");
        var demoted = await a.Engine.ChangeMembershipAsync(
            new MembershipChange(MembershipChangeKind.Demote, 0, $"{b.Status.NodeId:x16}"));
        Assert.True(demoted.Ok, demoted.Detail);
        await b.SeesAsync(voters: 1, learners: 1);
        await b.DisposeAsync();
        b = await _rig.StartAsync("b", join: a.Address, b.Port);
        await b.UntilAsync(() => b.Status.LeaderId != 0, () => "no leader");
        Assert.Equal("+OK\r\n", await b.SetAsync("as a learner"));
        await a.SeesAsync(voters: 1, learners: 1);
    }

    [Fact]
    public async Task ARemovedNodeSaysSoAndDoesNotStartAgain()
    {
        var (a, b, c) = await _rig.StartThreeAsync();
        var removed = await b.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.Remove, 0, c.Address));
        Assert.True(removed.Ok, removed.Detail);
        await c.UntilAsync(() => c.Status.IsRemoved, () => "it does not find out");
        Assert.Equal("-CLUSTERDOWN The cluster is down: this node was removed from its cluster\r\n", await c.SetAsync("late"));
        await c.DisposeAsync();
        var again = await Assert.ThrowsAsync<NodeRemovedException>(() => _rig.StartAsync("c", join: a.Address));
        Assert.Contains("empty its directory", again.Message, StringComparison.Ordinal);
        Assert.Equal("+OK\r\n", await b.SetAsync("two are left"));
    }

    [Theory]
    [InlineData(MembershipChangeKind.AddVoter)]
    [InlineData(MembershipChangeKind.AddLearner)]
    public async Task ARemovedNodeIsNotAddedAgainUnderItsIdWhetherItKnowsOrNot(MembershipChangeKind kind)
    {
        var (a, b, c) = await _rig.StartThreeAsync();
        Assert.True((await a.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.Remove, 0, c.Address))).Ok);
        var add = new MembershipChange(kind, 0, c.Address);
        var refused = new AdminOutcome(false, "the node was removed from its cluster; it can come back with an empty directory");
        Assert.Equal(refused, await a.Engine.ChangeMembershipAsync(add));
        Assert.Equal(refused, await b.Engine.ReplaceMemberAsync(b.Address, c.Address));
        await c.UntilAsync(() => c.Status.IsRemoved, () => "it does not find out");
        Assert.Equal(refused, await a.Engine.ChangeMembershipAsync(add));
        Assert.Equal(2, a.Status.Members.Count);
    }

    [Fact]
    public async Task ALearnerThatIsToldToVoteGoesOnAskingForIt()
    {
        var a = await _rig.StartAsync("a");
        var b = await _rig.StartAsync("b", join: "wait");
        Assert.True((await a.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.AddLearner, 0, b.Address))).Ok);
        await b.SeesAsync(voters: 1, learners: 1);

        // As by a leader that is gone before the learner has caught up.
        _ = b.Engine.OnInvitation(new ClusterAsk(AskKind.Invite, (byte)AskOptions.ToVote, a.Status.ClusterId, a.Address));
        await a.SeesAsync(voters: 2);
        await b.DisposeAsync();
        b = await _rig.StartAsync("b", port: b.Port);
        await b.SeesAsync(voters: 2);
    }

    /// <summary>As a member that nobody reaches it would cost the cluster a vote, and its own clients would wait in vain.</summary>
    [Fact]
    public async Task ANodeThatIsNotWhereItSaysIsToldSoAndNotTakenIn()
    {
        var a = await _rig.StartAsync("a");
        await a.SeesAsync(voters: 1);
        int nobody;
        using (var closed = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0))
        {
            closed.Start();
            nobody = ((System.Net.IPEndPoint)closed.LocalEndpoint).Port;
        }

        foreach (var (elsewhere, reason) in ((string, string)[])
            [($"127.0.0.1:{nobody}", "Connection refused"), (a.Address.Replace("127.0.0.1", "localhost", StringComparison.Ordinal), "not the node that was called for")])
        {
            await using var b = await _rig.StartAsync("b", join: a.Address, advertise: elsewhere);
            await b.UntilAsync(
                () => b.Notes.Any(note => note.Contains("--advertise", StringComparison.Ordinal) && note.Contains(reason, StringComparison.Ordinal)),
                () => $"it is not told, but {string.Join(" / ", b.Notes)}");
            Assert.Single(a.Status.Members);
        }

        // Nor does whoever is there come along.
        var c = await _rig.StartAsync("c", join: "wait");
        await using (var b = await _rig.StartAsync("b", join: a.Address, advertise: c.Address))
        {
            await b.UntilAsync(
                () => b.Notes.Any(static note => note.Contains("--advertise", StringComparison.Ordinal)), () => "it is not told");
            Assert.Equal(0ul, c.Status.ClusterId);
        }

        _ = await _rig.StartAsync("b", join: a.Address);
        await a.SeesAsync(voters: 2);
    }

    [Fact]
    public async Task AVoterDoesNotTakeAnothersPlace()
    {
        var (a, b, c) = await _rig.StartThreeAsync();
        var refused = await a.Engine.ReplaceMemberAsync(b.Address, c.Address);
        Assert.Equal(
            new AdminOutcome(
                false, $"the node at {c.Address} is a voter already; to remove {b.Address}, use RAFT SERVER REMOVE"),
            refused);
        await a.SeesAsync(voters: 3);
    }

    [Fact]
    public async Task ANodeThatWasAwayWhenItWasRemovedFindsOutAndDisturbsNobody()
    {
        var (a, _, c) = await _rig.StartThreeAsync();
        await c.UntilAsync(() => c.Notes.Any(static note => note.Contains("a voter", StringComparison.Ordinal)), () => "no note");
        await c.DisposeAsync();
        var removed = await a.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.Remove, 0, c.Address));
        Assert.True(removed.Ok, removed.Detail);
        var term = a.Status.Term;
        c = await _rig.StartAsync("c", port: c.Port);
        await c.UntilAsync(() => c.Status.IsRemoved, () => "it does not find out");
        Assert.Equal((term, RaftRole.Leader), (a.Status.Term, a.Status.Role));
    }

    [Fact]
    public async Task AChangeThatWouldLeaveTooFewIsRefused()
    {
        var (a, b, c) = await _rig.StartThreeAsync();
        await c.DisposeAsync();
        await a.UntilAsync(() => a.Status.Members.Any(static member => member.Role is null), () => "it counts as reachable");
        var refused = await a.Engine.TransferLeadershipAsync(c.Address);
        Assert.Equal(new AdminOutcome(false, "the node does not answer: it cannot lead"), refused);
        refused = await a.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.Remove, 0, b.Address));
        Assert.False(refused.Ok);
        Assert.Contains("of the 2 voters there would be only 1 answer", refused.Detail, StringComparison.Ordinal);
        Assert.True((await a.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.Remove, 0, c.Address))).Ok);
        Assert.True((await a.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.Remove, 0, b.Address))).Ok);
        await a.SeesAsync(voters: 1);
        refused = await a.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.Remove, 0, a.Address));
        Assert.Equal(new AdminOutcome(false, "no voter would be left"), refused);
        refused = await a.Engine.ChangeMembershipAsync(new MembershipChange(MembershipChangeKind.Remove, 0, "h:1"));
        Assert.Equal(new AdminOutcome(false, "peer is unknown"), refused);
    }

    [Fact]
    public async Task AMemberIsReplacedInOneStepAndTheLeaderIsAskedThroughAnyNode()
    {
        var (a, b, c) = await _rig.StartThreeAsync();
        var d = await _rig.StartAsync("d", join: "wait");
        var replaced = await b.Engine.ReplaceMemberAsync(c.Address, d.Address);
        Assert.True(replaced.Ok, replaced.Detail);
        await d.SeesAsync(voters: 3);
        await a.UntilAsync(() => a.Status.Members.All(member => member.Address != c.Address), () => "the old one is still there");
        await c.UntilAsync(() => c.Status.IsRemoved, () => "the old one does not find out");
        Assert.Equal("+OK\r\n", await d.SetAsync("through the new one"));
    }

    [Fact]
    public async Task LeadershipIsHandedOverWhenAskedAndWhenTheLeaderStops()
    {
        var (a, b, c) = await _rig.StartThreeAsync();
        var handed = await c.Engine.TransferLeadershipAsync(b.Address);
        Assert.True(handed.Ok, handed.Detail);
        await c.UntilAsync(() => c.Status.LeaderAddress == b.Address, () => $"{c.Status.LeaderAddress} leads");
        Assert.Equal(new AdminOutcome(false, "peer is unknown"), await a.Engine.TransferLeadershipAsync("h:1"));
        await b.UntilAsync(() => b.Status.Role == RaftRole.Leader, () => "b does not lead");
        await b.DisposeAsync();
        await a.UntilAsync(() => a.Status.LeaderId is not 0 && a.Status.LeaderAddress != b.Address, () => "nobody leads");
        Assert.Equal("+OK\r\n", await a.SetAsync("after it"));
    }

    [Fact]
    public async Task ANodeAnnouncesItsNewAddress()
    {
        var (a, b, c) = await _rig.StartThreeAsync();
        await c.DisposeAsync();
        c = await _rig.StartAsync("c");
        await b.UntilAsync(() => b.Status.Members.Any(member => member.Address == c.Address), () => "b does not know it");
        await a.SeesAsync(voters: 3);
        Assert.Equal("+OK\r\n", await c.SetAsync("from there"));
    }

    [Fact]
    public async Task AWipedNodeIsAnotherNodeAndItsAddressHasToBeFreed()
    {
        var (a, _, c) = await _rig.StartThreeAsync();
        var old = c.Status.NodeId;
        await c.DisposeAsync();
        var wiped = await _rig.StartAsync("wiped", join: a.Address, c.Port);
        var reason = await wiped.Fatal.WaitAsync(RigNode.Patience);
        Assert.Contains($"remove that one first (RAFT SERVER REMOVE {old:x16})", Assert.IsType<JoinRefusedException>(reason).Message, StringComparison.Ordinal);
        Assert.Equal(3, a.Status.Members.Count);
    }

    [Fact]
    public async Task DataOfItsOwnIsNotBroughtIntoAnotherCluster()
    {
        var a = await _rig.StartAsync("a");
        var b = await _rig.StartAsync("b");
        Assert.Equal("+OK\r\n", await b.SetAsync("mine"));
        await b.DisposeAsync();
        b = await _rig.StartAsync("b", join: a.Address);
        Assert.Equal(RaftRole.Leader, b.Status.Role);
        await b.UntilAsync(() => b.Notes.Any(static note => note.Contains("--join has no effect", StringComparison.Ordinal)), () => "no note");
        _ = Assert.Single(a.Status.Members);
    }

    [Fact]
    public async Task ARecoveredNodeIsAClusterOfItsOwnWithAllItsData()
    {
        var (a, b, c) = await _rig.StartThreeAsync();
        Assert.Equal("+OK\r\n", await a.SetAsync("kept"));
        await c.UntilAsync(() => c.Has("kept"), () => "the key does not arrive");
        var cluster = c.Status.ClusterId;
        foreach (var node in (RigNode[])[c, b, a])
        {
            await node.DisposeAsync();
        }

        using var text = new StringWriter();
        Assert.Equal(ExitCodes.Ok, RecoverTool.Run(c.Directory, c.Directory, c.Address, text));
        Assert.Contains("WARNING", text.ToString(), StringComparison.Ordinal);
        Assert.Contains($"was in cluster {cluster:x16}", text.ToString(), StringComparison.Ordinal);
        c = await _rig.StartAsync("c", port: c.Port);
        Assert.True(c.Has("kept"));
        Assert.Equal("+OK\r\n", await c.SetAsync("new"));
        _ = Assert.Single(c.Status.Members);
        Assert.NotEqual(cluster, c.Status.ClusterId);
    }

    [Theory]
    [InlineData(Durability.Low)]
    [InlineData(Durability.High)]
    public async Task ANodeWhoseDirectoryIsAnOlderOneIsBroughtUpToDateUnlessItsDiskIsTrusted(Durability durability)
    {
        _rig.Durability = durability;
        var (a, b, c) = await _rig.StartThreeAsync();
        await c.DisposeAsync();
        var copy = _rig.Path("copy");
        Copy(c.Directory, copy);
        c = await _rig.StartAsync("c", port: c.Port);
        Assert.Equal("+OK\r\n", await a.SetAsync("lost"));
        await c.UntilAsync(() => c.Has("lost"), () => "the key does not arrive");
        await a.UntilAsync(
            () => a.Status.Members.Single(member => member.Address == c.Address).Match == a.Status.LastLog.Index,
            () => "it does not acknowledge");
        var term = a.Status.Term;
        await c.DisposeAsync();
        Directory.Delete(c.Directory, recursive: true);
        Copy(copy, c.Directory);

        c = await _rig.StartAsync("c", port: c.Port);
        if (durability == Durability.High)
        {
            var reason = Assert.IsType<LogCorruptException>(await c.Fatal.WaitAsync(RigNode.Patience));
            Assert.Contains("went back in time", reason.Message, StringComparison.Ordinal);
            Assert.Equal(ExitCodes.BadData, Failure.Of(reason).ExitCode);
        }
        else
        {
            await c.UntilAsync(() => c.Has("lost"), () => "the key does not come back");
            Assert.False(c.Fatal.IsCompleted);
        }

        Assert.Equal((term, RaftRole.Leader), (a.Status.Term, a.Status.Role));
        Assert.Equal("+OK\r\n", await b.SetAsync("goes on"));
    }

    private static void Copy(string from, string to)
    {
        _ = Directory.CreateDirectory(to);
        foreach (var folder in Directory.EnumerateDirectories(from, "*", SearchOption.AllDirectories))
        {
            _ = Directory.CreateDirectory(Path.Combine(to, Path.GetRelativePath(from, folder)));
        }

        foreach (var file in Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories))
        {
            File.Copy(file, Path.Combine(to, Path.GetRelativePath(from, file)));
        }
    }

    [Fact]
    public void NothingIsRecoveredWhereNoNodeWas()
    {
        using var text = new StringWriter();
        _ = Assert.Throws<DirectoryNotFoundException>(() => RecoverTool.Run(_rig.Path("none"), _rig.Path("none"), "h:1", text));
    }
}
