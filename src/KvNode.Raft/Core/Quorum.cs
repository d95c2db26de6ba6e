namespace KvNode.Raft.Core;

/// <summary>How a vote stands.</summary>
internal enum VoteResult : byte
{
    Pending,
    Lost,
    Won,
}

/// <summary>Majorities, of one set of voters or of both halves of a joint configuration.</summary>
internal static class Quorum
{
    /// <summary>The largest number that a majority has reached. Sorts its argument. Nobody at all: everything is reached,
    /// so that an empty outgoing half never holds the other one back.</summary>
    public static ulong Reached(Span<ulong> numbers)
    {
        if (numbers.IsEmpty)
        {
            return ulong.MaxValue;
        }

        numbers.Sort();
        return numbers[numbers.Length - Majority(numbers.Length)];
    }

    /// <summary>As <see cref="Reached(Span{ulong})"/>, by a majority in each half.</summary>
    public static ulong Reached(Span<ulong> incoming, Span<ulong> outgoing)
    {
#if PLANTED_BUGS
        if (Planted.Is(Bug.IgnoresOutgoingHalf))
        {
            return Reached(incoming);
        }
#endif
        return Math.Min(Reached(incoming), Reached(outgoing));
    }

    /// <summary>Of this many voters some said yes, some said no, the rest have not answered. No voters: won.</summary>
    public static VoteResult Vote(int voters, int granted, int refused)
    {
        Invariant.Check(granted + refused <= voters);
        if (voters == 0 || granted >= Majority(voters))
        {
            return VoteResult.Won;
        }

        return voters - refused >= Majority(voters) ? VoteResult.Pending : VoteResult.Lost;
    }

    /// <summary>Won when both halves are, lost when either is.</summary>
    public static VoteResult Both(VoteResult incoming, VoteResult outgoing)
    {
        if (incoming == outgoing)
        {
            return incoming;
        }

        return incoming == VoteResult.Lost || outgoing == VoteResult.Lost ? VoteResult.Lost : VoteResult.Pending;
    }

    private static int Majority(int voters)
    {
#if PLANTED_BUGS
        if (Planted.Is(Bug.HalfIsEnough))
        {
            return (voters + 1) / 2;
        }
#endif
        return (voters / 2) + 1;
    }
}
