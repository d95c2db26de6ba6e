using System.Diagnostics;
using KvNode.Cluster.Tests.Harness;
using KvNode.Testing;

namespace KvNode.Cluster.Tests;

/// <summary>What people and clients tell a cluster, and where they are sent.</summary>
public sealed class CommandTests
{
    /// <summary>Answers to a change that was not made, or not yet, because of the moment: it is asked for again.</summary>
    private static readonly string[] Passing =
    [
        "ERR leader not known", "ERR the node did not take over in time", "ERR leadership is being handed over",
        "ERR another leader was elected before the change was agreed", "ERR this node is not the leader",
        "ERR the node does not answer: it cannot lead",
    ];

    [Fact]
    public void LeadershipAndRolesMoveAsToldUnderLoad()
    {
        Seeds.Run(nameof(LeadershipAndRolesMoveAsToldUnderLoad), random =>
        {
            using var cluster = Harness.Cluster.Start(3);
            var load = new HistoryLoad(cluster, random).Start();
            load.WaitForProgress();
            LeadershipMovesWhereItIsTold(cluster);
            load.WaitForProgress();
            FollowerIsDemotedAndPromoted(cluster);
            load.WaitForProgress();
            LeaderDemotesItself(cluster);
            load.WaitForProgress();

            // What was answered OK holds without the one that has said it.
            var leader = cluster.WaitForLeader();
            Tell(cluster, leader, "RAFT", "SERVER", "REMOVE", leader.Advertised);
            leader.Kill9();
            _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
            cluster.WaitForVoters(2);
            cluster.Drop(leader);
            load.WaitForProgress();
            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }

    [Fact]
    public void OneOfTwoGoesOnAloneWhenTheRemovedLeaderDiesAtOnce()
    {
        Seeds.Run(nameof(OneOfTwoGoesOnAloneWhenTheRemovedLeaderDiesAtOnce), random =>
        {
            using var cluster = Harness.Cluster.Start(2);
            var load = new HistoryLoad(cluster, random).Start();
            for (var round = 0; round < 2; round++)
            {
                load.WaitForProgress();
                var leader = cluster.WaitForLeader();
                var link = cluster.Links[leader.Index, cluster.SomeFollower(leader).Index];
                // The second time nothing that it says after its OK arrives.
                link.DelayMilliseconds = round * 100;
                Tell(cluster, leader, "RAFT", "SERVER", "REMOVE", leader.Advertised);
                link.IsCut = round == 1;
                leader.Kill9();
                _ = load.WaitForWriteSentAfter(HistoryLoad.Now);
                cluster.WaitForVoters(1);
                link.Heal();
                cluster.Drop(leader);
                _ = round == 0 ? cluster.Join() : null;
            }

            load.WaitForProgress();
            load.StopAndCheck();
            cluster.RequireEqualStates();
        });
    }

    /// <summary>Half of the voters that there would be is dead, for so short a time that the leader has heard of them a moment ago.</summary>
    [Fact]
    public void AChangeThatTheDeadWouldHaveToAgreeToIsRefused()
    {
        using var cluster = Harness.Cluster.Start(3);
        var leader = cluster.WaitForLeader();
        var dead = cluster.SomeFollower(leader);
        var alive = cluster.Nodes.Single(node => node != leader && node != dead);
        foreach (var word in (string[])["DEMOTE", "REMOVE"])
        {
            dead.Kill9();
            Assert.Equal(
                "-ERR of the 2 voters there would be only 1 answer: the cluster could not go on",
                Harness.Cluster.Ask(leader, "RAFT", "SERVER", word, alive.Advertised).ToString());
            Assert.Equal(
                "-ERR the node does not answer: it cannot lead",
                Harness.Cluster.Ask(leader, "RAFT", "TRANSFER", dead.Advertised).ToString());
            Assert.Equal("+OK", Harness.Cluster.Ask(leader, "SET", "goes", "on").ToString());
            dead.Start();
            cluster.WaitUntilReachable(dead);
        }

        cluster.RequireEqualStates();
    }

    [Fact]
    public void FollowersSendTheirClientsToTheLeaderByTryAndMoved()
    {
        using var cluster = Harness.Cluster.Start(3);
        var leader = cluster.Nodes[0];
        var (tries, moves) = (cluster.Nodes[1], cluster.Nodes[2]);
        tries.RestartWith(ClusterOptions.FollowerFlag, "try");
        moves.RestartWith(ClusterOptions.FollowerFlag, "moved");
        Tell(cluster, leader, "RAFT", "TRANSFER", leader.Advertised);
        cluster.WaitUntilReachable(tries);
        cluster.WaitUntilReachable(moves);

        var there = leader.Advertised;
        using var one = Harness.Cluster.Connect(tries);
        using var two = Harness.Cluster.Connect(moves);
        Assert.Equal([$"-TRY {there}", $"-TRY {there}", "+PONG", $"-TRY {there}"], AnswersOf(one));

        // The slots are Redis Cluster's: foo is in 12182.
        Assert.Equal([$"-MOVED 12182 {there}", $"-MOVED 12182 {there}", "+PONG", $"-MOVED 12182 {there}"], AnswersOf(two));
        Assert.Equal($"-MOVED 3443 {there}", two.Text("SET", "{user1000}.following", "1"));
        Assert.Equal("nil", Harness.Cluster.Ask(leader, "GET", "foo").ToString());

        // The reply is enough to get there; what was written there can be read here, as old as it may be.
        Assert.Equal("+OK", Follow(one.Call("SET", "foo", "try"), "SET", "foo", "try").ToString());
        Assert.Equal("\"try\"", Follow(two.Call("GET", "foo"), "GET", "foo").ToString());
        cluster.WaitUntilLevel();
        foreach (var client in (RespClient[])[one, two])
        {
            Assert.Equal("+OK", client.Text("READONLY"));
            Assert.Equal("\"try\"", client.Text("GET", "foo"));
            Assert.Equal("+OK", client.Text("READWRITE"));
            Assert.True(client.Call("GET", "foo").IsError);
        }

        // The leader dies: they send to the next one, or are it.
        leader.Kill9();
        Assert.Equal("+OK", FollowToTheEnd(cluster, one, "SET", "foo", "next"));
        Assert.Equal("\"next\"", FollowToTheEnd(cluster, two, "GET", "foo"));
        leader.Start();
        cluster.RequireEqualStates();

        // Nobody leads: who is told to try elsewhere hears so at once, and not after the wait for a leader.
        leader.Kill9();
        moves.Kill9();
        cluster.WaitUntil(() => one.Text("SET", "foo", "last") == "-ERR leader not known", $"{tries} still knows a leader");
        var clock = Stopwatch.StartNew();
        Assert.Equal("-ERR leader not known", one.Text("GET", "foo"));
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(2), $"it took {clock.Elapsed}");
    }

    private static void LeadershipMovesWhereItIsTold(Harness.Cluster cluster)
    {
        // By its address, told to the leader.
        var first = cluster.WaitForLeader();
        var second = cluster.SomeFollower(first);
        Tell(cluster, first, "RAFT", "TRANSFER", second.Advertised);
        cluster.WaitUntil(() => second.TryInfo() is { IsLeader: true }, $"{second} does not lead");

        // By its id, told to a follower.
        var third = cluster.Nodes.Single(node => node != first && node != second);
        Tell(cluster, first, "RAFT", "TRANSFER", third.TryInfo()!.NodeId);
        cluster.WaitUntil(() => third.TryInfo() is { IsLeader: true }, $"{third} does not lead");
        cluster.WaitUntil(() => MemberAt(third, third, "state") == "Leader", $"{third} does not list itself as leader");
        cluster.WaitUntil(() => MemberAt(second, third, "state") == "Leader", $"{second} does not list {third} as leader");

        // To whom it may be, told to a follower.
        Tell(cluster, second, "RAFT", "TRANSFER");
        _ = cluster.WaitForLeader(third);
        Assert.Equal("-ERR peer is unknown", Harness.Cluster.Ask(second, "RAFT", "TRANSFER", "127.0.0.1:1").ToString());
    }

    private static void FollowerIsDemotedAndPromoted(Harness.Cluster cluster)
    {
        var leader = cluster.WaitForLeader();
        var node = cluster.SomeFollower(leader);
        Tell(cluster, leader, "RAFT", "SERVER", "DEMOTE", node.Advertised);
        SeeAs(cluster, node, "learner");
        Assert.Equal(
            "-ERR the node has no vote: it cannot lead",
            Harness.Cluster.Ask(leader, "RAFT", "TRANSFER", node.Advertised).ToString());
        Assert.Equal("+OK", Harness.Cluster.Ask(node, "SET", "through", "a learner").ToString());
        Tell(cluster, node, "RAFT", "SERVER", "PROMOTE", node.Advertised);
        SeeAs(cluster, node, "voter");
    }

    private static void LeaderDemotesItself(Harness.Cluster cluster)
    {
        var leader = cluster.WaitForLeader();
        var id = leader.TryInfo()!.NodeId;
        Tell(cluster, leader, "RAFT", "SERVER", "DEMOTE", id);
        var next = cluster.WaitForLeader(leader);
        SeeAs(cluster, leader, "learner");
        Tell(cluster, cluster.Nodes.Single(node => node != leader && node != next), "RAFT", "SERVER", "PROMOTE", id);
        SeeAs(cluster, leader, "voter");
    }

    /// <summary>All nodes list it so, sooner or later.</summary>
    private static void SeeAs(Harness.Cluster cluster, ClusterNode node, string suffrage)
    {
        foreach (var at in cluster.Nodes)
        {
            cluster.WaitUntil(() => MemberAt(at, node, "suffrage") == suffrage, $"{at} does not list {node} as {suffrage}");
        }
    }

    /// <summary>What a node's list of members says of one of them.</summary>
    private static string? MemberAt(ClusterNode at, ClusterNode member, string field) =>
        Harness.Cluster.Ask(at, "RAFT", "SERVER", "LIST").Items!
            .Single(item => item.Field("address")!.Text == member.Advertised).Field(field)?.Text;

    /// <summary>Until it is answered OK; any other answer than that of a bad moment is a failure.</summary>
    private static void Tell(Harness.Cluster cluster, ClusterNode node, params string[] words) => cluster.WaitUntil(
        () =>
        {
            var reply = Harness.Cluster.Ask(node, [.. words.Select(static word => (RespArgument)word)]);
            if (reply.IsError)
            {
                Console.WriteLine($"{string.Join(' ', words)}: {reply}");
                cluster.Require(Passing.Contains(reply.Text, StringComparer.Ordinal), $"{string.Join(' ', words)} answers {reply}");
            }

            return reply.ToString() == "+OK";
        },
        $"{string.Join(' ', words)} is not done");

    private static string[] AnswersOf(RespClient client)
    {
        client.Send("SET", "foo", "1");
        client.Send("GET", "foo");
        client.Send("PING");
        client.Send("MSET", "foo", "1", "{foo}", "2");
        client.Flush();
        return [.. Enumerable.Range(0, 4).Select(_ => client.Read().ToString())];
    }

    /// <summary>As a client would: the command again, at the address that ends the reply.</summary>
    private static RespValue Follow(RespValue reply, params string[] command)
    {
        var words = reply.Text.Split(' ');
        Assert.True(reply.IsError && words[0] is "TRY" or "MOVED", $"{reply} sends nowhere");
        using var client = new RespClient(System.Net.IPEndPoint.Parse(words[^1]));
        return client.Call([.. command.Select(static word => (RespArgument)word)]);
    }

    private static string FollowToTheEnd(Harness.Cluster cluster, RespClient client, params string[] command)
    {
        RespValue? reply = null;
        cluster.WaitUntil(
            () =>
            {
                reply = client.Call([.. command.Select(static word => (RespArgument)word)]);
                cluster.Require(!reply.IsError || Replies.FateOf(reply) == Fate.NotExecuted, $"{command[0]} answers {reply}");
                try
                {
                    reply = reply.Text.Split(' ')[0] is "TRY" or "MOVED" ? Follow(reply, command) : reply;
                }
                catch (Exception failure) when (failure is IOException or System.Net.Sockets.SocketException)
                {
                    // Sent to the dead leader still.
                }

                return !reply.IsError;
            },
            $"{command[0]} is not executed");
        return reply!.ToString();
    }
}
