using System.Diagnostics.CodeAnalysis;

namespace KvNode.Server;

/// <summary>Promises the program makes to itself, checked in every build. A broken one stops the process.</summary>
internal static class Invariant
{
    public static void Check([DoesNotReturnIf(false)] bool holds, string promise)
    {
        if (!holds)
        {
            Broken(promise);
        }
    }

    public static void Check([DoesNotReturnIf(false)] bool holds, string promise, ulong is_, ulong should)
    {
        if (!holds)
        {
            Broken($"{promise}: is {is_}, should be {should}");
        }
    }

    [DoesNotReturn]
    private static void Broken(string promise) => throw new InvariantException(promise);
}

/// <summary>We are wrong: going on could answer wrongly.</summary>
internal sealed class InvariantException(string promise) : Exception("broken invariant: " + promise);
