using KvNode.Raft.Core;
using KvNode.Testing;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 9 of the scenarios: what a configuration is, how one follows from another, what a majority of it is.</summary>
public sealed class MembershipTests
{
    [Theory]
    [InlineData(MembershipChangeKind.AddVoter, 4UL, "1 2 3 4|5")]
    [InlineData(MembershipChangeKind.AddLearner, 4UL, "1 2 3|4 5")]
    [InlineData(MembershipChangeKind.Promote, 5UL, "1 2 3 5")]
    [InlineData(MembershipChangeKind.Demote, 3UL, "1 2|3 5")]
    [InlineData(MembershipChangeKind.Remove, 3UL, "1 2|5")]
    [InlineData(MembershipChangeKind.Remove, 5UL, "1 2 3")]
    public void M04_AChangeOfOneVoterIsDirect(MembershipChangeKind kind, ulong node, string after)
    {
        var before = Config.Of(1, 2, 3).WithLearners(5);

        Assert.Equal(after, before.After(Config.Change(new NodeChange(kind, node, "somewhere:1"))).Line());
    }

    /// <summary>A change of two voters is never direct; without a wish it goes through a joint configuration by itself.</summary>
    [Fact]
    public void M04_AChangeOfTwoVotersIsJoint()
    {
        var after = Config.Of(1, 2, 3).After(Config.Change(Config.Add(4), Config.Add(5)));

        Assert.Equal("1 2 3 4 5 & 1 2 3 auto", after.Line());
    }

    [Fact]
    public void M08_AVoterDemotedInAJointChangeLearnsOnlyWhenItIsLeft()
    {
        var joint = Config.Of(1, 2, 3).After(Config.Joint(Config.Demote(3), Config.Add(4)));
        Assert.Equal("1 2 4 & 1 2 3 ~3", joint.Line());
        Assert.True(joint.IsVoter(3));

        var left = joint.After(ConfigurationChange.LeaveJoint);

        Assert.Equal("1 2 4|3", left.Line());
        Assert.False(left.IsVoter(3));
    }

    [Theory]
    [InlineData(1UL, "1 2 3", true)]
    [InlineData(4UL, "1 2 3", false)]
    [InlineData(4UL, "1 2 3 4", true)]
    [InlineData(4UL, "1 2 3|4", false)]
    [InlineData(3UL, "1 2 & 1 2 3", true)]
    public void M18_OnlyAVoterCampaigns(ulong node, string configuration, bool campaigns)
    {
        var membership = configuration switch
        {
            "1 2 3 4" => Config.Of(1, 2, 3, 4),
            "1 2 3|4" => Config.Of(1, 2, 3).WithLearners(4),
            "1 2 & 1 2 3" => Config.Of(1, 2, 3).After(Config.Joint(Config.Remove(3))),
            _ => Config.Of(1, 2, 3),
        };
        Assert.Equal(configuration, membership.Line());
        var core = new Node(node, new Setup { Membership = membership });

        core.Campaign();

        Assert.Equal(campaigns ? CoreRole.PreCandidate : CoreRole.Follower, core.Core.Role);
    }

    [Fact]
    public void M19_ChangesThatChangeNothingAreNoErrors()
    {
        var before = Config.Of(1, 2, 3).WithLearners(4);
        foreach (var change in new[]
        {
            Config.Add(2), Config.Learner(4), Config.Learner(2), Config.Remove(9), Config.Promote(1), Config.Demote(4),
        })
        {
            Assert.Equal(before, before.After(Config.Change(change)));
        }

        var moved = before.After(Config.Change(new NodeChange(MembershipChangeKind.AddVoter, 2, "elsewhere:1")));
        Assert.Equal((before.Line(), "elsewhere:1"), (moved.Line(), moved.Addresses[2]));
        Assert.Equal("1 2 3 5|4", before.After(Config.Change(Config.Add(2), Config.Add(2), Config.Add(5))).Line());
    }

    [Fact]
    public void M20_TheLastVoterStays()
    {
        foreach (var change in new[]
        {
            Config.Change(Config.Remove(1)), Config.Change(Config.Demote(1)), Config.Joint(Config.Remove(1)),
            Config.Change(Config.Remove(1), Config.Learner(2)),
        })
        {
            Assert.Null(Config.Of(1).TryApply(change, out var refusal));
            Assert.NotNull(refusal);
        }

        var node = new Node(1, new Setup { Membership = Config.Of(1) });
        node.BecomeLeader();
        Assert.Equal(ProposeResult.Refused, node.ProposeChange(Config.Change(Config.Remove(1))));
        Assert.Equal(1UL, node.Last);
    }

    [Fact]
    public void M21_JointConfigurationsAreEnteredAndLeftInTurn()
    {
        var simple = Config.Of(1, 2, 3);
        Assert.Null(simple.TryApply(ConfigurationChange.LeaveJoint, out var notJoint));
        Assert.NotNull(notJoint);

        var joint = simple.After(Config.Joint(Config.Add(4)));
        foreach (var change in new[] { Config.Joint(Config.Add(5)), Config.Change(Config.Add(5)), Config.Change(Config.Learner(5)) })
        {
            Assert.Null(joint.TryApply(change, out var alreadyJoint));
            Assert.NotNull(alreadyJoint);
        }

        Assert.Null(Membership.Empty.TryApply(Config.Joint(Config.Add(1)), out var noVoters));
        Assert.NotNull(noVoters);
        Assert.Equal("1 2 3 4", joint.After(ConfigurationChange.LeaveJoint).Line());
    }

    [Fact]
    public void M22_OneJointChangeDoesWhatItsPartsDoOneByOne() =>
        Seeds.Run(nameof(M22_OneJointChangeDoesWhatItsPartsDoOneByOne), random =>
        {
            for (var round = 0; round < 1000; round++)
            {
                var stepwise = RandomSimple(random);
                var start = stepwise;
                var parts = new List<NodeChange>();
                for (var i = random.Next(1, 8); i > 0; i--)
                {
                    var part = RandomPart(random);
                    if (stepwise.TryApply(Config.Change(part), out _) is { } next)
                    {
                        stepwise = next;
                        parts.Add(part);
                    }
                }

                if (parts.Count > 0)
                {
                    var joint = start.After(Config.Joint([.. parts]));
                    Assert.Equal(stepwise, joint.After(ConfigurationChange.LeaveJoint));
                    Assert.Equal(start.Voters, joint.Outgoing);
                }
            }
        });

    [Fact]
    public void M23_AConfigurationIsTheSameAfterItsJourneyInASnapshot() =>
        Seeds.Run(nameof(M23_AConfigurationIsTheSameAfterItsJourneyInASnapshot), random =>
        {
            for (var round = 0; round < 300; round++)
            {
                var membership = RandomSimple(random);
                NodeChange[] parts = [RandomPart(random), RandomPart(random), Config.Add(1)];
                membership = membership.TryApply(Config.Joint(parts), out _) ?? membership;
                var again = Membership.Decode(membership.Encode());
                Assert.Equal(membership, again);
                Assert.Equal(membership.Line(), again.Line());
                Assert.Equal(membership.Encode(), again.Encode());

                var node = new Node(1, new Setup { Membership = Membership.Empty });
                Assert.True(node.ReceivesSnapshot(2, 1, At(5, 1), again));
                Assert.Equal(membership, node.Core.Membership);
            }
        });

    [Theory]
    [InlineData(new ulong[] { }, new ulong[] { }, ulong.MaxValue)]
    [InlineData(new ulong[] { 7 }, new ulong[] { }, 7UL)]
    [InlineData(new ulong[] { 7, 0 }, new ulong[] { }, 0UL)]
    [InlineData(new ulong[] { 7, 5 }, new ulong[] { }, 5UL)]
    [InlineData(new ulong[] { 9, 5, 0 }, new ulong[] { }, 5UL)]
    [InlineData(new ulong[] { 9, 0, 0 }, new ulong[] { }, 0UL)]
    [InlineData(new ulong[] { 100, 101, 99 }, new ulong[] { }, 100UL)]
    [InlineData(new ulong[] { 3, 8, 8, 9 }, new ulong[] { }, 8UL)]
    [InlineData(new ulong[] { 3, 3, 8, 9 }, new ulong[] { }, 3UL)]
    [InlineData(new ulong[] { 1, 2, 3, 4, 5 }, new ulong[] { }, 3UL)]
    [InlineData(new ulong[] { 9, 9, 9 }, new ulong[] { 4 }, 4UL)]
    [InlineData(new ulong[] { 4 }, new ulong[] { 9, 9, 9 }, 4UL)]
    [InlineData(new ulong[] { 9, 9, 0 }, new ulong[] { 9, 0, 0 }, 0UL)]
    [InlineData(new ulong[] { 100, 200, 300 }, new ulong[] { 150, 250, 50 }, 150UL)]
    public void M26_AMajorityReachesASortedMiddleAndBothHalvesTheLesser(ulong[] incoming, ulong[] outgoing, ulong reached) =>
        Assert.Equal(reached, Quorum.Reached(incoming.AsSpan(), outgoing.AsSpan()));

    [Theory]
    [InlineData("", "", VoteResult.Won)]
    [InlineData("y", "", VoteResult.Won)]
    [InlineData("n", "", VoteResult.Lost)]
    [InlineData("?", "", VoteResult.Pending)]
    [InlineData("y?", "", VoteResult.Pending)]
    [InlineData("yn", "", VoteResult.Lost)]
    [InlineData("yy?", "", VoteResult.Won)]
    [InlineData("yn?", "", VoteResult.Pending)]
    [InlineData("nn?", "", VoteResult.Lost)]
    [InlineData("yyn?", "", VoteResult.Pending)]
    [InlineData("yynn", "", VoteResult.Lost)]
    [InlineData("yyynn", "", VoteResult.Won)]
    [InlineData("yy?", "yy?", VoteResult.Won)]
    [InlineData("yyy", "y??", VoteResult.Pending)]
    [InlineData("yyy", "nn?", VoteResult.Lost)]
    [InlineData("???", "nn?", VoteResult.Lost)]
    [InlineData("n?", "yyy", VoteResult.Lost)]
    [InlineData("???", "???", VoteResult.Pending)]
    internal void M27_AVoteIsWonByBothHalvesAndLostByEither(string incoming, string outgoing, VoteResult result) =>
        Assert.Equal(result, Quorum.Both(Count(incoming), Count(outgoing)));

    private static VoteResult Count(string votes) =>
        Quorum.Vote(votes.Length, votes.Count(vote => vote == 'y'), votes.Count(vote => vote == 'n'));

    /// <summary>Node 1 votes; some of 2 to 7 vote or learn.</summary>
    private static Membership RandomSimple(Random random)
    {
        var membership = Config.Of(1);
        for (var i = random.Next(8); i > 0; i--)
        {
            membership = membership.TryApply(Config.Change(RandomPart(random)), out _) ?? membership;
        }

        return membership;
    }

    private static NodeChange RandomPart(Random random)
    {
        var node = (ulong)random.Next(2, 8);
        return random.Next(5) switch
        {
            0 => Config.Add(node),
            1 => Config.Learner(node),
            2 => Config.Promote(node),
            3 => Config.Demote(node),
            _ => Config.Remove(node),
        };
    }
}
