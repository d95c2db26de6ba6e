using System.Diagnostics.CodeAnalysis;

namespace KvNode.Testing;

/// <summary>Ends the running test as skipped, with the reason shown in the run's report.</summary>
/// <remarks>
/// xunit.v3 counts any exception whose message begins with this mark as a skip; that is its documented way for
/// libraries that do not reference it.
/// </remarks>
public static class TestSkip
{
    private const string DynamicSkipMark = "$XunitDynamicSkip$";

    [DoesNotReturn]
    public static void Because(string reason) => throw new TestSkippedException(DynamicSkipMark + "skipped: " + reason);

    /// <summary>Skips unless the test runs as root.</summary>
    public static void UnlessRoot(string why)
    {
        if (Posix.EffectiveUserId() != 0)
        {
            Because("root is missing: " + why);
        }
    }
}

/// <summary>Carries xunit's skip mark; never caught by tests.</summary>
public sealed class TestSkippedException(string message) : Exception(message);
