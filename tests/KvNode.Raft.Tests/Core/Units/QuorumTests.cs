using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Core.Units;

public sealed class QuorumTests
{
    [Theory]
    [InlineData(new ulong[] { 5 }, 5)]
    [InlineData(new ulong[] { 5, 7 }, 5)]
    [InlineData(new ulong[] { 9, 0, 5 }, 5)]
    [InlineData(new ulong[] { 0, 0, 5 }, 0)]
    [InlineData(new ulong[] { 4, 3, 2, 1 }, 2)]
    [InlineData(new ulong[] { 1, 9, 9, 2, 9 }, 9)]
    [InlineData(new ulong[] { 1, 9, 3, 2, 9 }, 3)]
    public void AMajorityHasReachedTheMiddleOne(ulong[] numbers, ulong reached) =>
        Assert.Equal(reached, Quorum.Reached(numbers));

    [Fact]
    public void NobodyHoldsNothingBack()
    {
        Assert.Equal(ulong.MaxValue, Quorum.Reached([]));
        Assert.Equal(3ul, Quorum.Reached([1, 3, 4], []));
    }

    [Fact]
    public void BothHalvesMustHaveReachedIt()
    {
        Assert.Equal(2ul, Quorum.Reached([7, 8, 9], [1, 2, 9]));
        Assert.Equal(8ul, Quorum.Reached([7, 8, 9], [9, 9, 9]));
    }

    [Theory]
    [InlineData(0, 0, 0, "Won")]
    [InlineData(1, 0, 0, "Pending")]
    [InlineData(1, 1, 0, "Won")]
    [InlineData(1, 0, 1, "Lost")]
    [InlineData(2, 1, 0, "Pending")]
    [InlineData(2, 1, 1, "Lost")]
    [InlineData(3, 1, 1, "Pending")]
    [InlineData(3, 2, 0, "Won")]
    [InlineData(3, 1, 2, "Lost")]
    [InlineData(4, 2, 1, "Pending")]
    [InlineData(4, 2, 2, "Lost")]
    [InlineData(5, 2, 2, "Pending")]
    [InlineData(5, 3, 2, "Won")]
    public void AVoteIsWonByAMajorityAndLostWhenNoneIsPossible(int voters, int granted, int refused, string result) =>
        Assert.Equal(result, Quorum.Vote(voters, granted, refused).ToString());

    [Theory]
    [InlineData("Won", "Won", "Won")]
    [InlineData("Won", "Pending", "Pending")]
    [InlineData("Pending", "Won", "Pending")]
    [InlineData("Won", "Lost", "Lost")]
    [InlineData("Lost", "Pending", "Lost")]
    [InlineData("Lost", "Lost", "Lost")]
    [InlineData("Pending", "Pending", "Pending")]
    public void AJointVoteIsWonInBothHalvesAndLostInEither(string incoming, string outgoing, string result) =>
        Assert.Equal(
            Enum.Parse<VoteResult>(result),
            Quorum.Both(Enum.Parse<VoteResult>(incoming), Enum.Parse<VoteResult>(outgoing)));

    /// <summary>By the definition: the largest of the numbers that more than half have reached.</summary>
    [Fact]
    public void TheMiddleOneIsTheDefinitionForAllSmallSets()
    {
        for (var size = 1; size <= 5; size++)
        {
            var numbers = new ulong[size];
            for (var code = 0; code < Math.Pow(4, size); code++)
            {
                for (var (i, rest) = (0, code); i < size; i++, rest /= 4)
                {
                    numbers[i] = (ulong)(rest % 4);
                }

                ulong expected = 0;
                foreach (var candidate in numbers)
                {
                    if (numbers.Count(number => number >= candidate) > size / 2)
                    {
                        expected = Math.Max(expected, candidate);
                    }
                }

                Assert.Equal(expected, Quorum.Reached([.. numbers]));
            }
        }
    }
}
