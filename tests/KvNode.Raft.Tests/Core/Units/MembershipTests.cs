using KvNode.Raft.Core;
using KvNode.Testing;
using Xunit;
using static KvNode.Raft.MembershipChangeKind;

namespace KvNode.Raft.Tests.Core.Units;

public sealed class MembershipTests
{
    private static readonly Membership Three = Membership.OfVoters((1ul, "a"), (2ul, "b"), (3ul, "c"));

    [Fact]
    public void OneVoterComesOrGoesDirectly()
    {
        var four = After(Three, (AddVoter, 4ul));
        Assert.Equal([1, 2, 3, 4], four.Voters);
        Assert.False(four.IsJoint);
        Assert.Equal([1, 3], After(Three, (Remove, 2ul)).Voters);
        var demoted = After(Three, (Demote, 2ul));
        Assert.Equal("voters [1 3] outgoing [] learners [2] next []", demoted.ToString());
        Assert.Equal(Three, After(demoted, (Promote, 2ul)));
    }

    [Fact]
    public void MoreThanOneVoterGoesByAJointConfigurationThatIsLeftByItself()
    {
        var joint = After(Three, (Remove, 1ul), (AddVoter, 4ul));
        Assert.Equal("voters [2 3 4] outgoing [1 2 3] learners [] next [] auto-leave", joint.ToString());
        Assert.True(joint.IsVoter(1));
        Assert.True(joint.Contains(1));
        var left = Leave(joint);
        Assert.Equal("voters [2 3 4] outgoing [] learners [] next []", left.ToString());
        Assert.False(left.Contains(1));
    }

    [Fact]
    public void AnyNumberOfLearnersComesDirectly() =>
        Assert.Equal(
            "voters [1 2 3] outgoing [] learners [4 5] next []", After(Three, (AddLearner, 4ul), (AddLearner, 5ul)).ToString());

    [Fact]
    public void AVoterOfTheOutgoingHalfLearnsOnlyAfterwards()
    {
        var joint = Three.TryApply(Change(ChangeTransition.JointExplicit, (Demote, 3ul), (AddLearner, 5ul)), out _);
        Assert.Equal("voters [1 2] outgoing [1 2 3] learners [5] next [3]", joint?.ToString());
        Assert.True(joint?.IsVoter(3));
        Assert.Equal("voters [1 2] outgoing [] learners [3 5] next []", Leave(joint).ToString());
    }

    [Fact]
    public void WhatIsAlreadySoChangesNothing()
    {
        Assert.Equal(Three, After(Three, (AddVoter, 2ul)));
        Assert.Equal(Three, After(Three, (AddLearner, 2ul)));
        Assert.Equal(Three, After(Three, (Promote, 2ul)));
        Assert.Equal(Three, After(Three, (Remove, 9ul)));
    }

    [Fact]
    public void AMemberAddedAgainMovesToItsNewAddress()
    {
        var moved = Three.TryApply(new ConfigurationChange(ChangeTransition.Auto, [new(AddVoter, 2, "z")]), out _);
        Assert.Equal("z", moved?.Addresses[2]);
        Assert.NotEqual(Three, moved);
        Assert.Equal(Three.Voters, moved?.Voters);
    }

    [Fact]
    public void WhatMakesNoSenseIsRefusedWithAReason()
    {
        var joint = After(Three, (Remove, 1ul), (AddVoter, 4ul));
        AssertRefused(joint, Change(ChangeTransition.Auto, (AddVoter, 5ul)));
        AssertRefused(Three, ConfigurationChange.LeaveJoint);
        AssertRefused(Three, Change(ChangeTransition.Auto, (Promote, 9ul)));
        AssertRefused(Three, Change(ChangeTransition.Auto, (Demote, 9ul)));
        AssertRefused(Three, Change(ChangeTransition.Auto, (AddVoter, 0ul)));
        AssertRefused(Three, Change(ChangeTransition.Auto, (Remove, 1ul), (Remove, 2ul), (Remove, 3ul)));
        AssertRefused(Membership.OfVoters((1ul, "a")), Change(ChangeTransition.Auto, (Demote, 1ul)));
        AssertRefused(Membership.Empty, Change(ChangeTransition.JointImplicit, (AddVoter, 1ul)));
        _ = Assert.Throws<ArgumentException>(() => Membership.OfVoters((1ul, "a"), (1ul, "b")));
    }

    [Fact]
    public void AResetLeavesOnlyWhomItNamesWhateverWasBefore()
    {
        var reset = new ConfigurationChange(ChangeTransition.Reset, [new(AddVoter, 2, "new")]);
        var learning = After(Three, (Demote, 2ul), (AddLearner, 5ul));
        var joint = Three.TryApply(Change(ChangeTransition.JointExplicit, (Demote, 3ul), (AddVoter, 4ul)), out _);
        Assert.NotNull(joint);
        Assert.True(joint.IsJoint);
        Membership[] befores = [Membership.Empty, Membership.OfVoters((2ul, "b")), Three, learning, joint, After(Three, (Remove, 2ul))];
        foreach (var before in befores)
        {
            Assert.Equal(Membership.OfVoters((2ul, "new")), before.TryApply(reset, out var refusal));
            Assert.Null(refusal);
        }

        // As any other change it leaves a voter, and it does not find members that were there before.
        AssertRefused(Three, new ConfigurationChange(ChangeTransition.Reset, []));
        AssertRefused(Three, Change(ChangeTransition.Reset, (AddLearner, 1ul)));
        AssertRefused(Three, Change(ChangeTransition.Reset, (Promote, 1ul)));
        Assert.Equal("0103" + "01000000" + "01" + "0200000000000000" + "03006E6577", Convert.ToHexString(reset.Encode()));
        Assert.Equal(ChangeTransition.Reset, ConfigurationChange.Decode(reset.Encode()).Transition);
    }

    /// <summary>Whatever the way, simple steps one by one or one joint change, the same members are left.</summary>
    [Fact]
    public void AJointChangeEndsWhereSingleStepsEnd() => Seeds.Run(nameof(AJointChangeEndsWhereSingleStepsEnd), random =>
    {
        for (var run = 0; run < 2000; run++)
        {
            var before = Random(random);
            var parts = new (MembershipChangeKind, ulong)[random.Next(1, 6)];
            for (var i = 0; i < parts.Length; i++)
            {
                parts[i] = ((MembershipChangeKind)random.Next(5), (ulong)random.Next(1, 8));
            }

            var joint = before.TryApply(Change(ChangeTransition.JointImplicit, parts), out _);
            var steps = before;
            foreach (var part in parts)
            {
                steps = steps?.TryApply(Change(ChangeTransition.Auto, part), out _);
            }

            // Single steps may pass by a state without voters, which no step can enter.
            if (joint is not null && steps is not null)
            {
                Assert.Equal(steps, Leave(joint));
            }
        }
    });

    [Fact]
    public void EveryConfigurationSurvivesItsBytes() => Seeds.Run(nameof(EveryConfigurationSurvivesItsBytes), random =>
    {
        for (var run = 0; run < 300; run++)
        {
            var membership = Random(random);
            var joint = membership.TryApply(
                Change((ChangeTransition)random.Next(3), (Demote, 1ul), (AddVoter, (ulong)random.Next(1, 8))), out _);
            membership = joint ?? membership;
            var bytes = membership.Encode();
            var decoded = Membership.Decode(bytes);
            Assert.Equal(membership, decoded);
            Assert.Equal(membership.GetHashCode(), decoded.GetHashCode());
            for (var length = 0; length < bytes.Length; length++)
            {
                _ = Assert.Throws<FormatException>(() => Membership.Decode(bytes.AsSpan(0, length)));
            }

            _ = Assert.Throws<FormatException>(() => Membership.Decode([.. bytes, 0]));
        }
    });

    [Fact]
    public void TheBytesOfAConfigurationAreTheOnesOnDisk() =>
        Assert.Equal(
            "0100" + "02000000" + "0100000000000000" + "0200000000000000" + "00000000" + "00000000" + "00000000"
            + "010061" + "0200C3A9",
            Convert.ToHexString(Membership.OfVoters((2ul, "é"), (1ul, "a")).Encode()));

    [Theory]
    [InlineData("0200")]
    [InlineData("0102")]
    [InlineData("0100FFFFFFFF")]
    [InlineData("01010000000000000000000000000000000000")]
    [InlineData("0100020000000200000000000000010000000000000000000000000000000000000000000000")]
    public void ForeignBytesAreNoConfiguration(string hex) =>
        Assert.Throws<FormatException>(() => Membership.Decode(Convert.FromHexString(hex)));

    [Fact]
    public void TheBytesOfAChangeAreTheOnesOnDisk()
    {
        var change = new ConfigurationChange(ChangeTransition.JointExplicit, [new(AddVoter, 4, "d"), new(Remove, 1, "")]);
        var bytes = change.Encode();
        Assert.Equal(
            "0102" + "02000000" + "01" + "0400000000000000" + "010064" + "04" + "0100000000000000" + "0000",
            Convert.ToHexString(bytes));
        var decoded = ConfigurationChange.Decode(bytes);
        Assert.Equal(change.Transition, decoded.Transition);
        Assert.Equal(change.Changes, decoded.Changes);
        Assert.Equal("010000000000", Convert.ToHexString(ConfigurationChange.LeaveJoint.Encode()));
        for (var length = 0; length < bytes.Length; length++)
        {
            _ = Assert.Throws<FormatException>(() => ConfigurationChange.Decode(bytes.AsSpan(0, length)));
        }

        _ = Assert.Throws<FormatException>(() => ConfigurationChange.Decode([.. bytes, 0]));
        bytes[6] = 9;
        _ = Assert.Throws<FormatException>(() => ConfigurationChange.Decode(bytes));
    }

    [Theory]
    [InlineData(AddLearner, 0)]
    [InlineData(AddVoter, 1)]
    [InlineData(Promote, 2)]
    [InlineData(Demote, 3)]
    [InlineData(Remove, 4)]
    public void KindsOfChangesKeepTheirNumbers(MembershipChangeKind kind, int number) => Assert.Equal(number, (int)kind);

    private static Membership Random(Random random)
    {
        var membership = Membership.OfVoters((1ul, "a"), (2ul, "b"));
        for (var i = random.Next(6); i > 0; i--)
        {
            var kind = random.Next(2) == 0 ? AddLearner : AddVoter;
            membership = After(membership, (kind, (ulong)random.Next(1, 8)));
        }

        return membership;
    }

    private static ConfigurationChange Change(
        ChangeTransition transition, params ReadOnlySpan<(MembershipChangeKind Kind, ulong Id)> parts)
    {
        var changes = new List<NodeChange>();
        foreach (var (kind, id) in parts)
        {
            changes.Add(new NodeChange(kind, id, kind is AddVoter or AddLearner ? id is > 0 and < 4 ? "" : $"n{id}" : ""));
        }

        return new ConfigurationChange(transition, changes);
    }

    private static Membership After(Membership before, params ReadOnlySpan<(MembershipChangeKind, ulong)> parts)
    {
        var after = before.TryApply(Change(ChangeTransition.Auto, parts), out var refusal);
        Assert.Null(refusal);
        Assert.NotNull(after);
        return after;
    }

    private static Membership Leave(Membership? joint)
    {
        var left = joint?.TryApply(ConfigurationChange.LeaveJoint, out _);
        Assert.NotNull(left);
        return left;
    }

    private static void AssertRefused(Membership before, ConfigurationChange change)
    {
        Assert.Null(before.TryApply(change, out var refusal));
        Assert.False(string.IsNullOrEmpty(refusal));
    }
}
