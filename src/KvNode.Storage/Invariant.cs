using System.Diagnostics.CodeAnalysis;

namespace KvNode.Storage;

/// <summary>Promises the store makes to itself, checked in every build. A broken one stops the process.</summary>
internal static class Invariant
{
    public static void Check([DoesNotReturnIf(false)] bool holds, string promise)
    {
        if (!holds)
        {
            throw new InvariantException(promise);
        }
    }

    public static void Check([DoesNotReturnIf(false)] bool holds, string promise, ulong left, ulong right)
    {
        if (!holds)
        {
            throw new InvariantException($"{promise}: {left}, {right}");
        }
    }
}

/// <summary>We are wrong: going on could answer wrongly.</summary>
public sealed class InvariantException(string promise) : Exception("broken invariant: " + promise);
